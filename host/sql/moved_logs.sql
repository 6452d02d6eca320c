-- Logs of a unit on a node that are not published to their end and were written by another number
-- of lanes: keys have moved between them. $1 node, $2 unit, $3 how many lanes there are
SELECT w.id FROM tribox.writers w
 WHERE w.node = $1 AND w.unit = $2 AND w.lanes <> $3
   AND EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published)
