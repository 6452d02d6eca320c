-- Messages that were in hand at a crash, of whichever node, and at how many crashes they were alone.
SELECT inbox_key, alone FROM tribox.suspects
