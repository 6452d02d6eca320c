-- Messages that were asked for: their causes were handled again some time ago, and nothing of that time
-- is unpublished.
DELETE FROM tribox.already_sent s USING tribox.inbox i
 WHERE i.key = s.inbox_key AND i.handled_at < now() - interval '10 min'
   AND NOT EXISTS (SELECT 1 FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
                    WHERE b.seq > w.published AND b.committed_at < now() - interval '5 min')
