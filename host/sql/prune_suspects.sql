-- Messages that were in hand at a crash and never came again.
DELETE FROM tribox.suspects WHERE since < now() - interval '1 day'
