-- The unit that a node should give up to one that has less; null: none. $1 node
SELECT tribox.surplus($1)
