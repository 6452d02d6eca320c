-- Logs that were taken over, and of which nothing is left.
SELECT tribox.prune_writers() AS gone
