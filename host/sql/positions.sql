-- How far a stream was handled: the highest sequence, and the one up to which all was. $1 handler,
-- $2 stream, $3 creation time of the stream
SELECT max(handled) AS handled, max(floor) AS floor FROM tribox.consumers
 WHERE handler = $1 AND stream = $2 AND stream_created = $3
