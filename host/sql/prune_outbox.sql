-- Published rows past their retention, oldest first; what was pruned before is not walked over again.
-- $1 writer, $2 retention in milliseconds, $3 limit
WITH gone AS (
    DELETE FROM tribox.outbox b USING (
        SELECT o.writer, o.seq FROM tribox.outbox o
          JOIN tribox.writers w ON w.id = o.writer
         WHERE o.writer = $1 AND o.seq <= w.published AND o.seq > w.pruned
           AND o.committed_at < now() - $2 * interval '1 ms'
         ORDER BY o.seq LIMIT $3) AS old
     WHERE b.writer = old.writer AND b.seq = old.seq
    RETURNING b.seq
), kept AS (
    UPDATE tribox.writers w SET pruned = (SELECT max(seq) FROM gone)
     WHERE w.id = $1 AND EXISTS (SELECT 1 FROM gone)
)
SELECT count(*) AS gone FROM gone
