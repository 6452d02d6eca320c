-- Which of these messages stood in their streams when a consumer was set back. $1 ids
SELECT id FROM tribox.already_sent WHERE id = ANY ($1)
