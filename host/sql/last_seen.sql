-- When a node last showed that it lives: milliseconds since the Unix epoch, or null.
SELECT (extract(epoch FROM max(seen)) * 1000)::bigint AS seen FROM tribox.nodes
