-- Messages that were asked for: their causes were handled again some time ago, nothing of that time is
-- unpublished, and they wait for nothing.
DELETE FROM tribox.already_sent s USING tribox.inbox i
 WHERE i.key = s.inbox_key AND i.handled_at < now() - interval '10 min'
   AND s.noted_at < now() - interval '10 min'
   AND NOT EXISTS (SELECT 1 FROM tribox.scheduled w WHERE w.id = s.id)
   AND NOT EXISTS (SELECT 1 FROM tribox.undelivered u WHERE u.id = s.id)
   AND NOT EXISTS (SELECT 1 FROM tribox.parked p WHERE p.inbox_key = s.inbox_key)
   AND NOT EXISTS (SELECT 1 FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
                    WHERE b.seq > w.published
                      AND (b.committed_at < now() - interval '5 min' OR b.id = s.id))
