-- Sends undelivered messages again that are due. $1 writer, $2 its fence, $3 first sequence, $4 limit
SELECT tribox.resend($1, $2, $3, $4) AS moved
