-- Deleted documents leave a tombstone; old ones go. $1 retention in milliseconds, $2 limit
DELETE FROM tribox.documents WHERE (collection, key) IN (
    SELECT d.collection, d.key FROM tribox.documents d
     WHERE d.deleted_at < now() - $1 * interval '1 ms' LIMIT $2 FOR UPDATE SKIP LOCKED)
