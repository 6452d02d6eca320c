-- Milliseconds until the next delayed message is due; null: there is none.
SELECT (extract(epoch FROM min(due_at) - now()) * 1000)::bigint AS wait FROM tribox.scheduled
