-- Sets a message aside that no stream takes. It is tried again by itself, unless it is too large:
-- less and less often, and with it what is set aside behind it. $1 writer, $2 seq, $3 reason,
-- $4 error
WITH set_aside AS (
    INSERT INTO tribox.undelivered AS u (id, handler, subject, headers, payload, reason, error)
    SELECT b.id, w.handler, b.subject, b.headers, b.payload, $3, $4
      FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
     WHERE b.writer = $1 AND b.seq = $2
    ON CONFLICT (id) DO UPDATE
       SET reason = excluded.reason, error = excluded.error, failed_at = now(),
           attempts = u.attempts + 1
    RETURNING u.id
)
SELECT count(*) FROM set_aside
