-- Sets a message aside that no stream takes. $1 writer, $2 seq, $3 reason
INSERT INTO tribox.undelivered (id, handler, subject, headers, payload, reason)
SELECT b.id, w.handler, b.subject, b.headers, b.payload, $3
  FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
 WHERE b.writer = $1 AND b.seq = $2
ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, failed_at = now()
