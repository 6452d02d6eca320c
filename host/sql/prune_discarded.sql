-- $1 retention in milliseconds, $2 limit
DELETE FROM tribox.discarded WHERE id IN (
    SELECT d.id FROM tribox.discarded d
     WHERE d.discarded_at < now() - $1 * interval '1 ms' LIMIT $2)
