-- Documents by prefix. $1 collection, $2 prefix, $3 end of the prefix's range or null, $4 after or
-- null, $5 limit, $6 bytes of bodies to stop at
SELECT key, body, version FROM tribox.list_documents($1, $2, $3, $4, $5, $6)
