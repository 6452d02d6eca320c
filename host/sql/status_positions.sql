-- How far each handler has handled each stream; of a stream that was made anew, as it is now.
SELECT DISTINCT ON (c.handler, c.stream) c.handler, c.stream, c.stream_created,
       max(c.handled) AS handled, max(c.floor) AS floor
  FROM tribox.consumers c GROUP BY c.handler, c.stream, c.stream_created
 ORDER BY c.handler, c.stream, c.stream_created DESC
