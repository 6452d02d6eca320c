-- What operators do with what was set aside: which rows they mean, retrying, throwing away, pausing.
-- The host has no part in it but to notice.

-- Whether a parked row is one that an operator means; null: any. A row that was put there to pause
-- its key has a negative id and is no message. One function for all commands, so that what a dry run
-- counts is what is done afterwards; Postgres makes it part of the query that uses it.
CREATE FUNCTION tribox.means_parked(
    p tribox.parked, p_handler text, p_state text, p_reason text, p_key text, p_message_id text,
    p_row bigint, older_ms bigint, newer_ms bigint
) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT p.id > 0
       AND (p_handler IS NULL OR p.handler = p_handler)
       AND (p_state IS NULL OR p.state = p_state)
       AND (p_reason IS NULL OR p.reason = p_reason)
       AND (p_key IS NULL OR p.key = p_key)
       AND (p_message_id IS NULL OR p.message_id = p_message_id)
       AND (p_row IS NULL OR p.id = p_row)
       AND (older_ms IS NULL OR p.parked_at < now() - older_ms * interval '1 ms')
       AND (newer_ms IS NULL OR p.parked_at >= now() - newer_ms * interval '1 ms')
$$;

-- The same for messages that no stream took; p_subject is a regular expression.
CREATE FUNCTION tribox.means_undelivered(
    u tribox.undelivered, p_handler text, p_subject text, p_reason text, p_id text, p_row bigint,
    older_ms bigint, newer_ms bigint
) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT (p_handler IS NULL OR u.handler = p_handler)
       AND (p_subject IS NULL OR u.subject ~ p_subject)
       AND (p_reason IS NULL OR u.reason = p_reason)
       AND (p_id IS NULL OR u.id = p_id)
       AND (p_row IS NULL OR u.position = p_row)
       AND (older_ms IS NULL OR u.failed_at < now() - older_ms * interval '1 ms')
       AND (newer_ms IS NULL OR u.failed_at >= now() - newer_ms * interval '1 ms')
$$;

-- The same for delayed messages; p_before in milliseconds since the Unix epoch.
CREATE FUNCTION tribox.means_scheduled(
    s tribox.scheduled, p_handler text, p_name text, p_subject text, p_id text, p_before bigint
) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT (p_handler IS NULL OR s.handler = p_handler)
       AND (p_name IS NULL OR s.name = p_name)
       AND (p_subject IS NULL OR s.subject ~ p_subject)
       AND (p_id IS NULL OR s.id = p_id)
       AND (p_before IS NULL OR s.due_at < to_timestamp(p_before / 1000.0))
$$;

-- Where the first row of a key waits for one that is gone, it is due now: the host takes the key up
-- with it. A key that is paused, or whose first message is retried or held, is left as it is; so are
-- the rows that are not to be woken.
CREATE FUNCTION tribox.wake_keys(handlers text[], keys text[], but_not bigint[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    woken bigint;
BEGIN
    UPDATE tribox.parked p SET state = 'retrying', next_attempt_at = now()
      FROM (SELECT DISTINCT k.handler, k.key FROM unnest(handlers, keys) AS k (handler, key)
             WHERE k.key IS NOT NULL) AS k
     WHERE p.id = (SELECT f.id FROM tribox.parked f
                    WHERE f.handler = k.handler AND f.key = k.key AND f.state <> 'dead'
                    ORDER BY f.id LIMIT 1)
       AND p.state = 'waiting' AND p.id <> ALL (but_not);
    GET DIAGNOSTICS woken = ROW_COUNT;
    RETURN woken;
END $$;

-- Throws parked messages away, with a record, and wakes what waited behind them: but not what is to
-- be thrown away next.
CREATE FUNCTION tribox.discard_parked(
    ids bigint[], by_whom text, ids_to_come bigint[] DEFAULT '{}'
)
RETURNS TABLE (discarded bigint, woken bigint)
LANGUAGE plpgsql AS $$
DECLARE
    handlers text[];
    keys text[];
BEGIN
    WITH gone AS (
        DELETE FROM tribox.parked p WHERE p.id = ANY (ids) RETURNING *
    ), noted AS (
        INSERT INTO tribox.discarded (discarded_by, origin, handler, key, message_id, subject,
                                      headers, payload, reason, error, attempts)
        SELECT by_whom, 'parked', g.handler, g.key, g.message_id, g.subject, g.headers::text,
               g.payload, g.reason, g.error, g.attempts
          FROM gone g
    )
    SELECT count(*), array_agg(g.handler), array_agg(g.key) INTO discarded, handlers, keys
      FROM gone g;
    woken := tribox.wake_keys(coalesce(handlers, '{}'), coalesce(keys, '{}'), ids_to_come);
    RETURN NEXT;
END $$;

-- Pauses a key by a row that comes before all others of it and is never due. Its id is derived from
-- the key, so that nobody needs a right on the sequence. False: it is paused already.
CREATE FUNCTION tribox.pause_key(p_handler text, p_key text, by_whom text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    mark uuid := tribox.inbox_key(p_handler, '(pause) ' || p_key);
BEGIN
    INSERT INTO tribox.parked (id, handler, key, state, attempts, next_attempt_at, reason, error,
                               component, inbox_key, message_id, subject, headers, payload,
                               stored_at)
    OVERRIDING SYSTEM VALUE
    VALUES (-1 - ('x' || left(replace(mark::text, '-', ''), 15))::bit(60)::bigint,
            p_handler, p_key, 'holding', 0, NULL, 'paused', 'paused by ' || by_whom,
            0, mark, '(pause)', '', '[]', '', 0)
    ON CONFLICT (inbox_key) DO NOTHING;
    RETURN FOUND;
END $$;

-- Takes that row away again, and wakes the key.
CREATE FUNCTION tribox.resume_key(p_handler text, p_key text)
RETURNS TABLE (resumed boolean, woken bigint)
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM tribox.parked p
     WHERE p.inbox_key = tribox.inbox_key(p_handler, '(pause) ' || p_key) AND p.id < 0;
    resumed := FOUND;
    woken := 0;
    IF resumed THEN
        woken := tribox.wake_keys(ARRAY[p_handler], ARRAY[p_key], '{}');
    END IF;
    RETURN NEXT;
END $$;
