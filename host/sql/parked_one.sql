-- All of one parked message: the build it failed under, and what stands before and behind it. $1 row
SELECT p.id, p.handler, p.key, p.state, p.reason, p.attempts, p.message_id, p.subject, p.error,
       (extract(epoch FROM now() - p.parked_at) * 1000)::bigint AS age_ms,
       (extract(epoch FROM p.next_attempt_at - now()) * 1000)::bigint AS next_attempt_ms,
       to_char(p.parked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS parked_at,
       p.headers::text AS headers, p.payload, p.stored_at,
       c.version AS component_version, c.digest AS component_digest,
       (SELECT count(*) FROM tribox.parked w
         WHERE w.handler = p.handler AND w.key = p.key AND w.id > p.id AND w.state = 'waiting'
           AND p.state <> 'dead') AS waiting_behind,
       (SELECT f.id FROM tribox.parked f
         WHERE f.handler = p.handler AND f.key = p.key AND f.id BETWEEN 1 AND p.id - 1
           AND f.state <> 'dead' ORDER BY f.id LIMIT 1) AS first_of_key,
       EXISTS (SELECT 1 FROM tribox.parked s
                WHERE s.inbox_key = tribox.inbox_key(p.handler, '(pause) ' || p.key) AND s.id < 0)
           AS key_paused
  FROM tribox.parked p LEFT JOIN tribox.components c ON c.id = p.component
 WHERE p.id = $1 AND p.id > 0
