-- When the oldest message was committed that the outbox keeps, in milliseconds since the Unix epoch.
-- $1 handler; null: any
SELECT (extract(epoch FROM min(b.committed_at)) * 1000)::bigint AS since
  FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
 WHERE $1::text IS NULL OR w.handler = $1
