-- Delayed messages by handler. $1 handler, $2 name, $3 subject as a regular expression, $4 id, $5 due
-- before, in milliseconds since the Unix epoch; null: any
SELECT s.handler, count(*) AS count, count(s.name) AS named,
       (extract(epoch FROM min(s.due_at) - now()) * 1000)::bigint AS first_ms,
       (extract(epoch FROM max(s.due_at) - now()) * 1000)::bigint AS last_ms
  FROM tribox.scheduled s WHERE tribox.means_scheduled(s, $1, $2, $3, $4, $5)
 GROUP BY s.handler ORDER BY s.handler
