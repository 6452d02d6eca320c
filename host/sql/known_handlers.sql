-- Handlers that a host has run.
SELECT DISTINCT handler FROM tribox.components ORDER BY handler
