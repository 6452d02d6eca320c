-- Takes a node name, over from whoever has it. $1 name, $2 who we are, $3 lease in milliseconds
SELECT epoch, crashes FROM tribox.register_node($1, $2, $3)
