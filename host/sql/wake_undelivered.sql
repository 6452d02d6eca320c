-- A subject of which the first message was discarded goes on with the next one.
SELECT tribox.wake_undelivered()
