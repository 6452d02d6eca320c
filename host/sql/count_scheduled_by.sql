-- Delayed messages of a handler, counted up to a limit, unless the table is far smaller than that.
-- $1 handler, $2 limit
SELECT CASE WHEN (SELECT greatest(c.reltuples, pg_relation_size(c.oid) / 400) FROM pg_class c
                   WHERE c.oid = 'tribox.scheduled'::regclass) * 2 < $2 THEN 0
       ELSE (SELECT count(*) FROM (
                 SELECT 1 FROM tribox.scheduled WHERE handler = $1 LIMIT $2) AS s) END AS waiting
