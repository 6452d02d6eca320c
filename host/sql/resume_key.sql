-- False: the key is not paused. $1 handler, $2 key
SELECT resumed, woken FROM tribox.resume_key($1, $2)
