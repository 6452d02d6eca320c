-- Messages of a key, or one without a key, in order. $1 handler, $2 key, $3 first id, $4 limit
SELECT id, attempts, inbox_key, message_id, key, subject, headers::text AS headers, payload,
       stored_at, state = 'waiting' OR next_attempt_at <= now() AS due
  FROM tribox.parked
 WHERE handler = $1 AND state <> 'dead' AND id >= $3 AND (key = $2 OR ($2 IS NULL AND id = $3))
 ORDER BY id LIMIT $4
