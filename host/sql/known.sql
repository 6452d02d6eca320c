-- Which of these messages were handled. $1 inbox keys
SELECT key FROM tribox.inbox WHERE key = ANY ($1)
