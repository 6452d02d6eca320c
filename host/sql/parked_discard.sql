-- Throws parked messages away: a batch of them, along their ids. $1 to $8 as in parked_counts.sql,
-- $9 after this row, $10 up to this row, $11 limit, $12 by whom
WITH picked AS MATERIALIZED (
    SELECT p.id FROM tribox.parked p
     WHERE tribox.means_parked(p, $1, $2, $3, $4, $5, $6, $7, $8) AND p.id > $9 AND p.id <= $10
     ORDER BY p.id LIMIT $11 FOR UPDATE
)
SELECT (SELECT max(id) FROM picked) AS last_row, d.discarded AS changed, d.woken
  FROM tribox.discard_parked(ARRAY(SELECT id FROM picked), $12) AS d
