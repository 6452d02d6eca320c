-- Messages of a turn that are set aside.
SELECT tribox.park($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
