-- Where a writer's log stands, after a commit of unknown outcome. $1 writer
SELECT w.published,
       greatest(w.published, w.pruned, coalesce((SELECT max(b.seq) FROM tribox.outbox b WHERE b.writer = w.id), 0)) AS last
  FROM tribox.writers w WHERE w.id = $1
