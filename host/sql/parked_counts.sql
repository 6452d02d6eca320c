-- Parked messages by handler, state and reason, with the newest row of all: what comes later is not
-- meant. $1 handler, $2 state, $3 reason, $4 key, $5 message id, $6 row, $7 older and $8 newer than so
-- many milliseconds; null: any
SELECT p.handler, p.state, p.reason, count(*) AS count, max(p.id) AS newest_row,
       (extract(epoch FROM now() - min(p.parked_at)) * 1000)::bigint AS oldest_ms,
       (extract(epoch FROM now() - max(p.parked_at)) * 1000)::bigint AS newest_ms
  FROM tribox.parked p WHERE tribox.means_parked(p, $1, $2, $3, $4, $5, $6, $7, $8)
 GROUP BY p.handler, p.state, p.reason ORDER BY p.handler, count(*) DESC, p.state, p.reason
