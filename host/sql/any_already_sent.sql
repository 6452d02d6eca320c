-- Whether some messages are known to stand in their streams.
SELECT EXISTS (SELECT 1 FROM tribox.already_sent) AS some
