-- Delayed messages of a turn.
SELECT tribox.schedule($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
