-- What is in hand, before it is handled. $1 node, $2 inbox keys
INSERT INTO tribox.in_hand (node, inbox_keys) VALUES ($1, $2)
ON CONFLICT (node) DO UPDATE SET inbox_keys = excluded.inbox_keys
