-- $1 retention in milliseconds, $2 limit
DELETE FROM tribox.inbox WHERE key = ANY (ARRAY(
    SELECT i.key FROM tribox.inbox i
     WHERE i.handled_at < now() - $1 * interval '1 ms' ORDER BY i.handled_at LIMIT $2))
