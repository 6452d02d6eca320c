-- This process ends in order. $1 name, $2 epoch
UPDATE tribox.nodes SET clean = true WHERE name = $1 AND epoch = $2
