-- A message that is parked is remembered for as long as it is. $1 retention in milliseconds, $2 limit
DELETE FROM tribox.inbox WHERE key = ANY (ARRAY(
    SELECT i.key FROM tribox.inbox i
     WHERE i.handled_at < now() - $1 * interval '1 ms'
       AND NOT EXISTS (SELECT 1 FROM tribox.parked p WHERE p.inbox_key = i.key)
     ORDER BY i.handled_at LIMIT $2))
