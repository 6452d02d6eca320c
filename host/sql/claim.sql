-- Has this node own a unit, unless another one does. $1 node, $2 epoch, $3 unit
SELECT owned, owner, crashes FROM tribox.claim($1, $2, $3)
