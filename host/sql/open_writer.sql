-- A lane's log, with its last sequence and how far it was published. $1 node, $2 epoch, $3 handler,
-- $4 lane, $5 how many lanes there are, $6 whether the node must own the handler
SELECT id, fence, published, last FROM tribox.open_writer($1, $2, $3, $4, $5, $6)
