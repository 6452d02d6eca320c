-- Moves due messages into the log of the scheduler's writer, in one transaction with the fence.
-- $1 node, $2 epoch, $3 writer, $4 first sequence, $5 limit
WITH fence AS (
    SELECT 1 FROM tribox.nodes WHERE name = $1 AND epoch = $2 FOR KEY SHARE
), due AS (
    DELETE FROM tribox.scheduled WHERE id IN (
        SELECT s.id FROM tribox.scheduled s
         WHERE s.due_at <= now() AND EXISTS (SELECT 1 FROM fence)
         ORDER BY s.due_at, s.id LIMIT $5 FOR UPDATE SKIP LOCKED)
    RETURNING *
), moved AS (
    INSERT INTO tribox.outbox (writer, seq, expires_at, id, subject, headers, payload)
    SELECT $3, $4 + row_number() OVER (ORDER BY d.due_at, d.id) - 1,
           d.due_at + d.expires_after * interval '1 ms', d.id, d.subject, d.headers, d.payload
      FROM due d
    RETURNING seq
)
SELECT count(*) AS moved FROM moved
