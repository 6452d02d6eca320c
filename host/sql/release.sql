-- Gives a unit up: others may own it from now on. $1 unit, $2 node, $3 epoch
DELETE FROM tribox.owners WHERE unit = $1 AND node = $2 AND epoch = $3
