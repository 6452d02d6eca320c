-- Logs of a handler that are not published to their end and that another node wrote: published before
-- anything new. $1 handler, $2 node
SELECT w.id, w.node FROM tribox.writers w
 WHERE w.handler = $1 AND NOT (w.node = $2 AND w.lane >= 0)
   AND EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published)
 ORDER BY w.id
