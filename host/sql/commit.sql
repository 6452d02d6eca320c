-- The commit of a turn. What is rarer is put into this one statement, too: see commit_*.sql.
SELECT tribox.commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                     $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)
