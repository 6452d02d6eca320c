-- One document that was not read ahead. $1 collection, $2 key
SELECT d.body::text AS body, d.version FROM tribox.documents d
 WHERE d.collection = $1 AND d.key = $2
