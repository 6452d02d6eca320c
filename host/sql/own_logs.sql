-- Logs of a node that are not published to their end. $1 node, $2 whether those alone that it took over
SELECT w.id, w.published,
       greatest(w.published, w.pruned, coalesce((SELECT max(b.seq) FROM tribox.outbox b WHERE b.writer = w.id), 0)) AS last
  FROM tribox.writers w
 WHERE w.node = $1 AND (w.lane < 0 OR NOT $2)
   AND EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published)
 ORDER BY w.id
