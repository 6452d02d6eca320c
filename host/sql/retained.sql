-- A stretch of what the outbox keeps of published messages, in order of log and sequence. $1 handler;
-- null: any. $2 committed since, in milliseconds since the Unix epoch, $3 and $4 after this writer and
-- sequence, $5 limit
SELECT b.writer, b.seq, w.handler, b.id, b.subject, b.headers, b.payload,
       (extract(epoch FROM b.committed_at) * 1000)::bigint AS committed_at,
       (extract(epoch FROM b.expires_at) * 1000)::bigint AS expires_at
  FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
 WHERE (b.writer, b.seq) > ($3, $4) AND b.seq <= w.published AND ($1::text IS NULL OR w.handler = $1)
   AND b.committed_at >= to_timestamp($2 / 1000.0)
 ORDER BY b.writer, b.seq LIMIT $5
