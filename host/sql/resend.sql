-- Sends undelivered messages again that are due. $1 node, $2 epoch, $3 writer, $4 first sequence,
-- $5 limit
SELECT tribox.resend($1, $2, $3, $4, $5) AS moved
