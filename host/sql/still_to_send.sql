-- Which of these messages are still to be sent: by a message that was not handled or is parked, delayed, or
-- undelivered. $1 ids, $2 inbox keys of what sends them
SELECT s.id FROM unnest($1::text[], $2::uuid[]) AS s (id, key)
 WHERE NOT EXISTS (SELECT 1 FROM tribox.inbox i WHERE i.key = s.key)
    OR EXISTS (SELECT 1 FROM tribox.scheduled w WHERE w.id = s.id)
    OR EXISTS (SELECT 1 FROM tribox.undelivered u WHERE u.id = s.id)
    OR EXISTS (SELECT 1 FROM tribox.parked p WHERE p.inbox_key = s.key)
