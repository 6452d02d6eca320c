-- Notes messages that stand in their streams. $1 ids, $2 inbox keys of what sends them
INSERT INTO tribox.already_sent (id, inbox_key) SELECT * FROM unnest($1::text[], $2::uuid[])
ON CONFLICT (id) DO UPDATE SET noted_at = now()
