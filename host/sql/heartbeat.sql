-- A sign of life; no row: the node was fenced out. A gap as long as the lease is noted. Returns how many
-- there were, and when this server was started: both tell when the database may be another one than
-- before. $1 name, $2 epoch, $3 lease in milliseconds
UPDATE tribox.nodes
   SET seen = now(), lease_until = now() + $3 * interval '1 ms', lease_ms = $3, beats = beats + 1,
       steady_since = CASE WHEN lease_until < now() THEN now() ELSE steady_since END
 WHERE name = $1 AND epoch = $2
RETURNING beats, (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint AS server_started
