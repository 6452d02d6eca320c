-- Delayed messages, those that are due first. $1 to $5 as in scheduled_counts.sql, $6 limit
SELECT s.id, s.handler, s.name, s.subject, s.headers, s.payload, s.expires_after,
       to_char(s.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS due_at,
       (extract(epoch FROM s.due_at - now()) * 1000)::bigint AS due_ms
  FROM tribox.scheduled s WHERE tribox.means_scheduled(s, $1, $2, $3, $4, $5)
 ORDER BY s.due_at, s.id LIMIT $6
