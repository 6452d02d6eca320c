-- Logs of a unit that are not published to their end and that another node wrote, and those of its
-- handler when it was split otherwise: published before anything new. $1 unit, $2 node
SELECT w.id, w.node FROM tribox.writers w
 WHERE w.handler = tribox.handler_of($1)
   AND (w.unit = $1 AND NOT (w.node = $2 AND w.lane >= 0)
        OR tribox.layout_of(w.unit) <> tribox.layout_of($1))
   AND EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published)
 ORDER BY w.id
