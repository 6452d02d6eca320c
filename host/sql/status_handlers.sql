-- Every handler that has a build or left something behind, and what waits for what.
WITH build AS (
    SELECT DISTINCT ON (c.handler) c.handler, c.version, c.digest
      FROM tribox.components c ORDER BY c.handler, c.id DESC
), aside AS (
    SELECT p.handler, count(*) FILTER (WHERE p.id > 0 AND p.state = 'retrying') AS retrying,
           count(*) FILTER (WHERE p.id > 0 AND p.state = 'waiting') AS waiting,
           count(*) FILTER (WHERE p.id > 0 AND p.state = 'holding') AS holding,
           count(*) FILTER (WHERE p.id > 0 AND p.state = 'dead') AS dead
      FROM tribox.parked p GROUP BY p.handler
), later AS (
    SELECT s.handler, count(*) AS count FROM tribox.scheduled s GROUP BY s.handler
), untaken AS (
    SELECT u.handler, count(*) AS count FROM tribox.undelivered u GROUP BY u.handler
), unsent AS (
    SELECT w.handler, count(*) AS count, min(o.committed_at) AS oldest
      FROM tribox.writers w JOIN tribox.outbox o ON o.writer = w.id AND o.seq > w.published
     GROUP BY w.handler
), working AS (
    SELECT w.handler, array_agg(DISTINCT w.node ORDER BY w.node) AS nodes, min(w.opened_at) AS since
      FROM tribox.writers w JOIN tribox.nodes n ON n.name = w.node
     WHERE w.lane >= 0 AND w.opened_at >= n.started AND NOT n.clean
     GROUP BY w.handler
), names AS (
    SELECT handler FROM build UNION SELECT handler FROM aside UNION SELECT handler FROM later
    UNION SELECT handler FROM untaken UNION SELECT handler FROM unsent
    UNION SELECT handler FROM tribox.paused
)
SELECT n.handler, b.version, b.digest, coalesce(r.nodes, '{}') AS nodes, o.node AS owner,
       x.paused_by,
       to_char(x.paused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS paused_at,
       coalesce(a.retrying, 0) AS retrying, coalesce(a.waiting, 0) AS waiting,
       coalesce(a.holding, 0) AS holding, coalesce(a.dead, 0) AS dead,
       coalesce(l.count, 0) AS scheduled, coalesce(t.count, 0) AS undelivered,
       coalesce(s.count, 0) AS unpublished,
       (extract(epoch FROM now() - s.oldest) * 1000)::bigint AS oldest_unsent_ms
  FROM names n
  LEFT JOIN build b USING (handler) LEFT JOIN tribox.paused x USING (handler)
  LEFT JOIN aside a USING (handler) LEFT JOIN later l USING (handler)
  LEFT JOIN untaken t USING (handler) LEFT JOIN unsent s USING (handler)
  LEFT JOIN working r USING (handler)
  LEFT JOIN (SELECT u.unit, u.node FROM tribox.owners u
               JOIN tribox.nodes m ON m.name = u.node AND m.epoch = u.epoch AND NOT m.clean) AS o
         ON o.unit = n.handler
 ORDER BY n.handler
