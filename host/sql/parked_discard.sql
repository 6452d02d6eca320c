-- Throws parked messages away: a batch of them, along their ids. A key whose next message is meant as
-- well is not woken in between. $1 to $8 as in parked_counts.sql, $9 after this row, $10 up to this
-- row, $11 limit, $12 by whom
WITH picked AS MATERIALIZED (
    SELECT p.id, p.handler, p.key FROM tribox.parked p
     WHERE tribox.means_parked(p, $1, $2, $3, $4, $5, $6, $7, $8) AND p.id > $9 AND p.id <= $10
     ORDER BY p.id LIMIT $11 FOR UPDATE
), last AS (
    SELECT max(id) AS id FROM picked
), to_come AS (
    SELECT (SELECT n.id FROM tribox.parked n
             WHERE n.handler = k.handler AND n.key = k.key AND n.state <> 'dead'
               AND n.id > last.id AND n.id <= $10
               AND tribox.means_parked(n, $1, $2, $3, $4, $5, $6, $7, $8)
             ORDER BY n.id LIMIT 1) AS id
      FROM last, (SELECT DISTINCT handler, key FROM picked WHERE key IS NOT NULL) AS k
)
SELECT last.id AS last_row, d.discarded AS changed, d.woken
  FROM last, tribox.discard_parked(
           ARRAY(SELECT id FROM picked), $12,
           ARRAY(SELECT id FROM to_come WHERE id IS NOT NULL)) AS d
