-- What came of parked messages that a turn took up.
SELECT tribox.repark($1, $2, $3, $4, $5, $6, $7, $8)
