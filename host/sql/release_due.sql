-- Moves due messages into the log of the scheduler's writer, in one transaction with the fence; null: the
-- log was taken over.
-- $1 writer, $2 its fence, $3 first sequence, $4 limit
WITH fence AS (
    SELECT 1 FROM tribox.writers WHERE id = $1 AND fence = $2 FOR KEY SHARE
), due AS (
    DELETE FROM tribox.scheduled WHERE id IN (
        SELECT s.id FROM tribox.scheduled s
         WHERE s.due_at <= now() AND EXISTS (SELECT 1 FROM fence)
         ORDER BY s.due_at, s.id LIMIT $4 FOR UPDATE SKIP LOCKED)
    RETURNING *
), moved AS (
    INSERT INTO tribox.outbox (writer, seq, expires_at, id, subject, headers, payload)
    SELECT $1, $3 + row_number() OVER (ORDER BY d.due_at, d.id) - 1,
           d.due_at + d.expires_after * interval '1 ms', d.id, d.subject, d.headers, d.payload
      FROM due d
    RETURNING seq
)
SELECT CASE WHEN EXISTS (SELECT 1 FROM fence) THEN (SELECT count(*) FROM moved) END AS moved
