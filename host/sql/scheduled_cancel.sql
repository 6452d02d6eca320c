-- Takes delayed messages back: a batch of them, those that are due first. One that the host is just
-- moving into a log is left to it. $1 to $5 as in scheduled_counts.sql, $6 limit, $7 by whom
WITH picked AS MATERIALIZED (
    SELECT s.id FROM tribox.scheduled s WHERE tribox.means_scheduled(s, $1, $2, $3, $4, $5)
     ORDER BY s.due_at, s.id LIMIT $6 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM tribox.scheduled s USING picked WHERE s.id = picked.id RETURNING s.*
), noted AS (
    INSERT INTO tribox.discarded (discarded_by, origin, handler, message_id, subject, headers,
                                  payload, reason, error, attempts)
    SELECT $7, 'scheduled', g.handler, g.id, g.subject, g.headers, g.payload, 'cancelled',
           format('it was due at %s%s',
                  to_char(g.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                  coalesce(', as ' || g.name, '')), 0
      FROM gone g ORDER BY g.due_at, g.id
)
SELECT (SELECT count(*) FROM gone) AS changed
