-- Messages that were in hand at a crash, and at how many crashes they were alone. $1 node
SELECT inbox_key, alone FROM tribox.suspects WHERE node = $1
