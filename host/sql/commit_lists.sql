-- Lists that a turn rests on; stands before the commit, which changes what it counts.
SELECT tribox.check_lists($1, $2, $3, $4, $5, $6)
