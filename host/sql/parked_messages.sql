-- Messages to be taken up again. $1 handler, $2 keys, $3 ids, $4 limit in all
SELECT asked, id, attempts, inbox_key, message_id, key, subject, headers, payload, stored_at, due
  FROM tribox.take_up($1, $2, $3, $4)
