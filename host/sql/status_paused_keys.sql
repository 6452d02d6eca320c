-- Keys that operators have paused, and how many messages wait there. $1 limit
SELECT p.handler, p.key, p.error AS paused_by,
       to_char(p.parked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS paused_at,
       (SELECT count(*) FROM tribox.parked w
         WHERE w.handler = p.handler AND w.key = p.key AND w.id > 0 AND w.state <> 'dead') AS behind
  FROM tribox.parked p WHERE p.id < 0 ORDER BY p.handler, p.key LIMIT $1
