-- A lane's log, with its last sequence and how far it was published. $1 node, $2 handler, $3 lane,
-- $4 how many lanes there are
WITH opened AS (
    INSERT INTO tribox.writers AS w (node, handler, lane, lanes) VALUES ($1, $2, $3, $4)
    ON CONFLICT (node, handler, lane) DO UPDATE SET lanes = excluded.lanes
    RETURNING id, published, pruned
)
SELECT o.id, o.published,
       greatest(o.published, o.pruned, coalesce((SELECT max(b.seq) FROM tribox.outbox b WHERE b.writer = o.id), 0)) AS last
  FROM opened o
