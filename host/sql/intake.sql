-- What bears on the intake of a handler: who has paused it, if somebody has; keys that are paused; and
-- parked messages whose next attempt has come. $1 handler, $2 limit of these
SELECT 'paused' AS what, 0::bigint AS id, paused_by AS who FROM tribox.paused WHERE handler = $1
UNION ALL
SELECT 'paused-key', 0, key FROM tribox.parked
 WHERE handler = $1 AND state IN ('dead', 'holding') AND id < 0 AND key IS NOT NULL
UNION ALL
(SELECT 'due', id, key FROM tribox.parked
  WHERE handler = $1 AND state = 'retrying' AND next_attempt_at <= now()
  ORDER BY next_attempt_at LIMIT $2)
