-- Documents by prefix. $1 collection, $2 prefix, $3 end of the prefix's range or null, $4 after or
-- null, $5 limit
SELECT d.key, d.body::text AS body, d.version FROM tribox.documents d
 WHERE d.collection = $1 AND d.key >= $2 AND ($3::text IS NULL OR d.key < $3)
   AND ($4::text IS NULL OR d.key > $4) AND d.body IS NOT NULL
 ORDER BY d.key LIMIT $5
