-- Whether an operator has paused a handler, and who. $1 handler
SELECT paused_by FROM tribox.paused WHERE handler = $1
