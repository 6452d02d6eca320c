-- The lanes of these logs work no more. $1 writers
UPDATE tribox.writers SET opened_at = NULL WHERE id = ANY ($1)
