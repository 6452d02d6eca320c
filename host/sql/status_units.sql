-- Which node has which handler with keys, or partition of one.
SELECT unit, node, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since
  FROM tribox.held WHERE unit NOT LIKE '(%' ORDER BY unit
