-- $1 name, $2 epoch; no row: somebody took the name over.
UPDATE tribox.nodes SET seen = now() WHERE name = $1 AND epoch = $2
