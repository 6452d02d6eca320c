-- Messages whose next attempt has come. $1 handler, $2 limit
SELECT id, key FROM tribox.parked
 WHERE handler = $1 AND state = 'retrying' AND next_attempt_at <= now()
 ORDER BY next_attempt_at LIMIT $2
