-- Messages no stream took, counted up to a limit. $1 limit
SELECT count(*) AS waiting FROM (SELECT 1 FROM tribox.undelivered LIMIT $1) AS u
