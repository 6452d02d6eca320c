-- Delayed messages that wait, counted up to a limit, so that it stays cheap. $1 limit
SELECT count(*) AS waiting FROM (SELECT 1 FROM tribox.scheduled LIMIT $1) AS s
