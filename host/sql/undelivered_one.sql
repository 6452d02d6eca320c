-- All of one message that no stream took. $1 row
SELECT u.position, u.id, u.handler, u.subject, u.reason, u.error, u.attempts,
       (extract(epoch FROM now() - u.failed_at) * 1000)::bigint AS age_ms,
       (extract(epoch FROM u.retry_at - now()) * 1000)::bigint AS retry_ms,
       u.resent_seq IS NOT NULL AS on_its_way,
       to_char(u.failed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS failed_at,
       u.headers, u.payload
  FROM tribox.undelivered u WHERE u.position = $1
