-- Which of these ids the inbox has, and the documents that are to be read ahead.
-- $1 inbox keys, $2 collections, $3 document keys
SELECT inbox_key, collection, key, body, version FROM tribox.load($1, $2, $3)
