-- Sets a message aside that no stream takes. $1 writer, $2 seq, $3 reason, $4 error
SELECT tribox.set_undelivered($1, $2, $3, $4)
