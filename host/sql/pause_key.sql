-- False: the key is paused already. $1 handler, $2 key, $3 by whom
SELECT tribox.pause_key($1, $2, $3) AS paused
