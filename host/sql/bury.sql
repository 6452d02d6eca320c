-- Fences out nodes whose lease is over, and takes over their logs. $1 node, $2 epoch
SELECT name, holder, silent_ms FROM tribox.bury($1, $2)
