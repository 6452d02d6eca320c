-- $1 name
SELECT holder FROM tribox.nodes WHERE name = $1
