-- The documents of a key in these collections, as they are now. $1 collections, $2 key
SELECT d.collection, d.key, d.body::text AS body FROM tribox.documents d
 WHERE d.collection = ANY ($1) AND d.key = $2 AND d.body IS NOT NULL ORDER BY d.collection
