-- The lanes that ever wrote for a handler on a node. $1 node, $2 handler
SELECT lane FROM tribox.writers WHERE node = $1 AND handler = $2 ORDER BY lane
