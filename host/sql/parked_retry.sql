-- Makes parked messages due: a batch of them, along their ids. Those that wait go with the first of
-- their key. $1 to $8 as in parked_counts.sql, $9 after this row, $10 up to this row, $11 limit
WITH picked AS MATERIALIZED (
    SELECT p.id FROM tribox.parked p
     WHERE tribox.means_parked(p, $1, $2, $3, $4, $5, $6, $7, $8)
       AND p.state <> 'waiting' AND p.id > $9 AND p.id <= $10
     ORDER BY p.id LIMIT $11 FOR UPDATE
), changed AS (
    UPDATE tribox.parked p
       SET state = 'retrying', next_attempt_at = now(),
           attempts = CASE WHEN p.state = 'retrying' THEN p.attempts ELSE 0 END
      FROM picked WHERE p.id = picked.id RETURNING p.id
)
SELECT (SELECT max(id) FROM picked) AS last_row, (SELECT count(*) FROM changed) AS changed,
       0::bigint AS woken
