-- Messages that no stream took, by handler and reason, with the newest row of all. $1 handler,
-- $2 subject as a regular expression, $3 reason, $4 id, $5 row, $6 older and $7 newer than so many
-- milliseconds; null: any
SELECT u.handler, u.reason, count(*) AS count, count(DISTINCT u.subject) AS subjects,
       max(u.position) AS newest_row,
       (extract(epoch FROM now() - min(u.failed_at)) * 1000)::bigint AS oldest_ms,
       (extract(epoch FROM now() - max(u.failed_at)) * 1000)::bigint AS newest_ms
  FROM tribox.undelivered u WHERE tribox.means_undelivered(u, $1, $2, $3, $4, $5, $6, $7)
 GROUP BY u.handler, u.reason ORDER BY u.handler, count(*) DESC, u.reason
