-- Keys with messages waiting in order. $1 handler
SELECT DISTINCT key FROM tribox.parked WHERE handler = $1 AND state <> 'dead' AND key IS NOT NULL
