-- $1 inbox keys
DELETE FROM tribox.suspects WHERE inbox_key = ANY ($1)
