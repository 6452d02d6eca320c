-- Which messages are not to be sent: no stream took them, or an operator threw them away. $1 ids
SELECT u.id FROM tribox.undelivered u WHERE u.id = ANY ($1)
UNION
SELECT d.message_id FROM tribox.discarded d WHERE d.origin = 'undelivered' AND d.message_id = ANY ($1)
