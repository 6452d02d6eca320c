-- The logs that a node prunes: its own, and those of nodes that are gone. $1 node
SELECT w.id FROM tribox.writers w
 WHERE w.node = $1 OR NOT EXISTS (SELECT 1 FROM tribox.nodes n
                                   WHERE n.name = w.node AND NOT n.clean AND n.lease_until >= now())
