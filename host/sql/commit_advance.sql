-- How far the streams of a turn were handled.
SELECT tribox.advance($1, $2, $3, $4, $5, $6)
