-- Logs with messages that are not published yet, and whether their node still shows signs of life.
SELECT w.node, w.id, w.handler, w.lane, coalesce(n.seen > now() - interval '15 s', false) AS alive
  FROM tribox.writers w LEFT JOIN tribox.nodes n ON n.name = w.node
 WHERE EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published)
 ORDER BY w.id
