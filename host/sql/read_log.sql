-- A stretch of a writer's log. $1 writer, $2 after, $3 limit
-- Written as one comparison of the primary key, so that the index is walked in order. As two, and before
-- the table was first analysed, a backlog was taken for small: all of it was read and sorted each time.
SELECT b.seq, b.id, b.subject, b.headers, b.payload,
       (extract(epoch FROM b.committed_at) * 1000)::bigint AS committed_at,
       (extract(epoch FROM b.expires_at) * 1000)::bigint AS expires_at
  FROM tribox.outbox b
 WHERE (b.writer, b.seq) > ($1, $2) AND b.writer <= $1
 ORDER BY b.writer, b.seq LIMIT $3
