-- A stretch of a writer's log. $1 writer, $2 after, $3 limit
SELECT b.seq, b.id, b.subject, b.headers, b.payload,
       (extract(epoch FROM b.committed_at) * 1000)::bigint AS committed_at,
       (extract(epoch FROM b.expires_at) * 1000)::bigint AS expires_at
  FROM tribox.outbox b WHERE b.writer = $1 AND b.seq > $2 ORDER BY b.seq LIMIT $3
