-- Which of these ids the inbox has, and the documents that are to be read ahead.
-- $1 inbox keys, $2 collections, $3 document keys
SELECT i.key AS inbox_key, NULL::text AS collection, NULL::text AS key, NULL::text AS body,
       NULL::bigint AS version
  FROM tribox.inbox i WHERE i.key = ANY ($1::uuid[])
UNION ALL
SELECT NULL, d.collection, d.key, d.body::text, d.version
  FROM unnest($2::text[], $3::text[]) AS r (collection, key)
  JOIN tribox.documents d ON d.collection = r.collection AND d.key = r.key
