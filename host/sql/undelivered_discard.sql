-- Throws messages away that no stream took: a batch of them; those that stand in a log again are on
-- their way. $1 to $7 as in undelivered_counts.sql,
-- $8 after this row, $9 up to this row, $10 limit, $11 by whom
WITH picked AS MATERIALIZED (
    SELECT u.id, u.position FROM tribox.undelivered u
     WHERE tribox.means_undelivered(u, $1, $2, $3, $4, $5, $6, $7)
       AND u.resent_seq IS NULL AND u.position > $8 AND u.position <= $9
     ORDER BY u.position LIMIT $10 FOR UPDATE
), gone AS (
    DELETE FROM tribox.undelivered u USING picked WHERE u.id = picked.id RETURNING u.*
), noted AS (
    INSERT INTO tribox.discarded (discarded_by, origin, handler, message_id, subject, headers,
                                  payload, reason, error, attempts)
    SELECT $11, 'undelivered', g.handler, g.id, g.subject, g.headers, g.payload, g.reason, g.error,
           g.attempts
      FROM gone g ORDER BY g.position
)
SELECT (SELECT max(position) FROM picked) AS last_row, (SELECT count(*) FROM gone) AS changed,
       0::bigint AS woken
