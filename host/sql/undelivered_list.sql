-- The newest messages that no stream took. $1 to $7 as in undelivered_counts.sql, $8 limit
SELECT u.position, u.id, u.handler, u.subject, u.reason, u.error, u.attempts,
       (extract(epoch FROM now() - u.failed_at) * 1000)::bigint AS age_ms,
       (extract(epoch FROM u.retry_at - now()) * 1000)::bigint AS retry_ms,
       u.resent_seq IS NOT NULL AS on_its_way
  FROM tribox.undelivered u WHERE tribox.means_undelivered(u, $1, $2, $3, $4, $5, $6, $7)
 ORDER BY u.position DESC LIMIT $8
