-- Takes a node name, over from whoever has it. $1 name, $2 who we are
INSERT INTO tribox.nodes AS n (name, epoch, holder) VALUES ($1, 1, $2)
ON CONFLICT (name) DO UPDATE
   SET epoch = n.epoch + 1, started = now(), seen = now(), holder = excluded.holder
RETURNING epoch
