-- The units that a node works on or stands by for. $1 name, $2 epoch, $3 units
UPDATE tribox.nodes SET wants = $3 WHERE name = $1 AND epoch = $2 AND wants <> $3
