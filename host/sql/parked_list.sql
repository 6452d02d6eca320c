-- The newest parked messages. $1 to $8 as in parked_counts.sql, $9 limit
SELECT p.id, p.handler, p.key, p.state, p.reason, p.attempts, p.message_id, p.subject, p.error,
       (extract(epoch FROM now() - p.parked_at) * 1000)::bigint AS age_ms,
       (extract(epoch FROM p.next_attempt_at - now()) * 1000)::bigint AS next_attempt_ms
  FROM tribox.parked p WHERE tribox.means_parked(p, $1, $2, $3, $4, $5, $6, $7, $8)
 ORDER BY p.id DESC LIMIT $9
