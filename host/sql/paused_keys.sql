-- Keys that operators have paused. $1 handler
SELECT key FROM tribox.parked
 WHERE handler = $1 AND state IN ('dead', 'holding') AND id < 0 AND key IS NOT NULL
