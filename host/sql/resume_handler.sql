-- No row: it is not paused. $1 handler
DELETE FROM tribox.paused WHERE handler = $1
