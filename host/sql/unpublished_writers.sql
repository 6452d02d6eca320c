-- Logs of this node that have something to publish. $1 node
SELECT w.id, w.handler, w.published, (SELECT max(b.seq) FROM tribox.outbox b WHERE b.writer = w.id) AS last
  FROM tribox.writers w
 WHERE w.node = $1 AND EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published)
