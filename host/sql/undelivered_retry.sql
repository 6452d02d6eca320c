-- Makes messages that no stream took due: a batch of them, in order; those that are on their way
-- already are left alone. $1 to $7 as in
-- undelivered_counts.sql, $8 after this row, $9 up to this row, $10 limit
WITH picked AS MATERIALIZED (
    SELECT u.position FROM tribox.undelivered u
     WHERE tribox.means_undelivered(u, $1, $2, $3, $4, $5, $6, $7)
       AND u.resent_seq IS NULL AND u.position > $8 AND u.position <= $9
     ORDER BY u.position LIMIT $10 FOR UPDATE
), changed AS (
    UPDATE tribox.undelivered u SET retry_at = now()
      FROM picked WHERE u.position = picked.position RETURNING u.position
)
SELECT (SELECT max(position) FROM picked) AS last_row, (SELECT count(*) FROM changed) AS changed,
       0::bigint AS woken
