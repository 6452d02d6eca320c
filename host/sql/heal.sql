-- $1 handler, $2 component, $3 reasons, $4 limit
SELECT tribox.heal($1, $2, $3, $4) AS healed
