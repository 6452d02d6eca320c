-- $1 node
SELECT id FROM tribox.writers WHERE node = $1
