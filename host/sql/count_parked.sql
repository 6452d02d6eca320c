-- Parked messages by state, each counted up to a limit. $1 handler, $2 limit
SELECT s.state, (SELECT count(*) FROM (
           SELECT 1 FROM tribox.parked p
            WHERE p.handler = $1 AND p.state = s.state AND p.id > 0 LIMIT $2) AS c) AS waiting
  FROM unnest(ARRAY['retrying', 'waiting', 'holding', 'dead']) AS s (state)
