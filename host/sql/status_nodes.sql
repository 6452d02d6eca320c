-- Who runs, or ran.
SELECT name, epoch, holder, clean, fenced_by,
       to_char(started AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS started,
       (extract(epoch FROM now() - seen) * 1000)::bigint AS seen_ms,
       (extract(epoch FROM lease_until - now()) * 1000)::bigint AS lease_ms
  FROM tribox.nodes ORDER BY clean, seen DESC, name
