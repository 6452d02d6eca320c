-- How a node stands, for one that can write no more. $1 name
SELECT epoch, holder, fenced_by FROM tribox.nodes WHERE name = $1
