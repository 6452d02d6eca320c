-- The commit. Each function runs within the one statement of a turn, so a turn is one transaction
-- that Postgres ends by itself: no transaction is ever held open over a round trip, and a host that
-- is frozen holds no lock. Errors carry SQLSTATEs of our own:
--   TB001 fenced out   TB002 a document changed   TB003 a list changed   TB004 a parked row is gone

-- The inbox key of a message, as the host computes it: for looking things up by hand.
CREATE FUNCTION tribox.inbox_key(handler text, message_id text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(substr(sha256(convert_to(handler, 'UTF8') || '\x00'::bytea
                                || convert_to(message_id, 'UTF8')), 1, 16), 'hex')::uuid
$$;

-- What was listed is still all there is: as many live documents in each range as were seen, under a
-- lock against those who add to the collection or take from it. That the ones seen are unchanged is
-- held by their versions.
CREATE FUNCTION tribox.check_lists(
    collections text[], froms text[], afters text[], untils text[], lasts text[], counts bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    found_now bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(1953655138, hashtext(c)) FROM unnest(collections) AS c;
    FOR i IN 1 .. cardinality(collections) LOOP
        SELECT count(*) INTO found_now FROM tribox.documents d
         WHERE d.collection = collections[i] AND d.key >= froms[i] AND d.body IS NOT NULL
           AND (afters[i] IS NULL OR d.key > afters[i])
           AND (untils[i] IS NULL OR d.key < untils[i])
           AND (lasts[i] IS NULL OR d.key <= lasts[i]);
        IF found_now <> counts[i] THEN
            RAISE EXCEPTION 'the list of % from % changed', collections[i], froms[i]
                USING ERRCODE = 'TB003';
        END IF;
    END LOOP;
END $$;

-- Documents in order of their keys until there are enough of them, or enough bytes. It leaves its
-- query in the middle, so that nothing is built that nobody asked for.
CREATE FUNCTION tribox.list_documents(
    p_collection text, p_from text, p_until text, p_after text, p_limit bigint, p_bytes bigint
) RETURNS TABLE (key text, body text, version bigint)
LANGUAGE plpgsql STABLE
-- The ends of the range that are not given are to be left out of the plan.
SET enable_seqscan = off SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    total bigint := 0;
BEGIN
    FOR key, body, version IN
        SELECT d.key, d.body::text, d.version FROM tribox.documents d
         WHERE d.collection = p_collection AND d.key >= p_from AND d.body IS NOT NULL
           AND (p_until IS NULL OR d.key < p_until) AND (p_after IS NULL OR d.key > p_after)
         ORDER BY d.key LIMIT p_limit
    LOOP
        RETURN NEXT;
        total := total + octet_length(body);
        EXIT WHEN total >= p_bytes;
    END LOOP;
END $$;

-- What a turn has to know: which of these ids the inbox has, and the documents read ahead.
CREATE FUNCTION tribox.load(ids uuid[], collections text[], keys text[])
RETURNS TABLE (inbox_key uuid, collection text, key text, body text, version bigint)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    IF cardinality(ids) > 0 THEN
        RETURN QUERY
            SELECT i.key, NULL::text, NULL::text, NULL::text, NULL::bigint
              FROM tribox.inbox i WHERE i.key = ANY (ids);
    END IF;
    IF cardinality(keys) > 0 THEN
        RETURN QUERY
            SELECT NULL::uuid, d.collection, d.key, d.body::text, d.version
              FROM unnest(collections, keys) AS r (collection, key)
              JOIN tribox.documents d ON d.collection = r.collection AND d.key = r.key;
    END IF;
END $$;

CREATE FUNCTION tribox.commit(
    -- the fence: of the log that is appended to
    node_name text, out_fence bigint,
    -- the inbox
    in_component integer, in_keys uuid[], in_sequences bigint[],
    -- documents whose version is known and that are written; no body: deleted
    up_collections text[], up_keys text[], up_versions bigint[], up_bodies text[],
    -- documents known not to be there; no body: that is held fast by a tombstone
    new_collections text[], new_keys text[], new_bodies text[],
    -- documents written without having been read
    blind_collections text[], blind_keys text[], blind_bodies text[],
    -- collections that documents come into or go from, for the lock against lists
    changed_collections text[],
    -- documents read and not written
    read_collections text[], read_keys text[], read_versions bigint[],
    -- the outbox, and how far this writer's log was published
    out_writer integer, out_first bigint, out_ids text[], out_subjects text[], out_headers text[],
    out_payloads bytea[], out_expires_after bigint[], out_published bigint
) RETURNS void
LANGUAGE plpgsql
-- A plan made while the tables were small is kept for long: it must be the one that fits large ones.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    touched bigint;
BEGIN
    PERFORM 1 FROM tribox.writers w WHERE w.id = out_writer AND w.fence = out_fence FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'log % of node % was taken over', out_writer, node_name
            USING ERRCODE = 'TB001';
    END IF;

    INSERT INTO tribox.inbox (key, sequence, component)
    SELECT i.key, i.sequence, in_component FROM unnest(in_keys, in_sequences) AS i (key, sequence);

    IF cardinality(changed_collections) > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(1953655138, hashtext(c))
           FROM unnest(changed_collections) AS c;
    END IF;

    IF cardinality(up_keys) > 0 THEN
        UPDATE tribox.documents d
           SET body = u.body::jsonb, version = d.version + 1,
               deleted_at = CASE WHEN u.body IS NULL THEN now() END
          FROM unnest(up_collections, up_keys, up_versions, up_bodies) AS u (c, k, v, body)
         WHERE d.collection = u.c AND d.key = u.k AND d.version = u.v;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(up_keys) THEN
            RAISE EXCEPTION 'a document to be written has changed' USING ERRCODE = 'TB002';
        END IF;
    END IF;

    IF cardinality(new_keys) > 0 THEN
        INSERT INTO tribox.documents (collection, key, body, version, deleted_at)
        SELECT n.c, n.k, n.body::jsonb, 1, CASE WHEN n.body IS NULL THEN now() END
          FROM unnest(new_collections, new_keys, new_bodies) AS n (c, k, body)
        -- Of this key alone: what an index of the team's own refuses is an error.
        ON CONFLICT (collection, key) DO NOTHING;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(new_keys) THEN
            RAISE EXCEPTION 'a document that was not there has come' USING ERRCODE = 'TB002';
        END IF;
    END IF;

    IF cardinality(blind_keys) > 0 THEN
        INSERT INTO tribox.documents AS d (collection, key, body, version, deleted_at)
        SELECT b.c, b.k, b.body::jsonb, 1, CASE WHEN b.body IS NULL THEN now() END
          FROM unnest(blind_collections, blind_keys, blind_bodies) AS b (c, k, body)
        ON CONFLICT (collection, key) DO UPDATE
           SET body = excluded.body, version = d.version + 1, deleted_at = excluded.deleted_at;
    END IF;

    IF cardinality(read_keys) > 0 THEN
        PERFORM 1 FROM unnest(read_collections, read_keys, read_versions) AS r (c, k, v)
          JOIN tribox.documents d ON d.collection = r.c AND d.key = r.k AND d.version = r.v
           FOR SHARE OF d;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(read_keys) THEN
            RAISE EXCEPTION 'a document that was read has changed' USING ERRCODE = 'TB002';
        END IF;
    END IF;

    IF cardinality(out_ids) > 0 THEN
        INSERT INTO tribox.outbox (writer, seq, expires_at, id, subject, headers, payload)
        SELECT out_writer, out_first + o.n - 1, now() + o.expires_after * interval '1 ms',
               o.id, o.subject, o.headers, o.payload
          FROM unnest(out_ids, out_subjects, out_headers, out_payloads, out_expires_after)
               WITH ORDINALITY AS o (id, subject, headers, payload, expires_after, n);
    END IF;

    IF out_published IS NOT NULL THEN
        UPDATE tribox.writers w SET published = out_published
         WHERE w.id = out_writer AND w.published < out_published;
    END IF;
END $$;

-- Not in SQL, though it is one statement: such a function is planned anew at each call.
CREATE FUNCTION tribox.advance(
    p_handler text, p_writer integer, streams text[], created bigint[], handled_to bigint[],
    floors bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tribox.consumers AS c (handler, stream, stream_created, writer, handled, floor)
    SELECT p_handler, u.stream, u.created, p_writer, u.handled, u.floor
      FROM unnest(streams, created, handled_to, floors) AS u (stream, created, handled, floor)
    ON CONFLICT (handler, stream, stream_created, writer) DO UPDATE
       SET handled = greatest(c.handled, excluded.handled), floor = greatest(c.floor, excluded.floor);
END $$;

-- Delayed messages: names taken back first (cancelled or replaced), then the new ones.
CREATE FUNCTION tribox.schedule(
    p_handler text, dropped_names text[],
    ids text[], names text[], after_ms bigint[], at_ms bigint[], expire_ms bigint[],
    subjects text[], header_lines text[], payloads bytea[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(dropped_names) > 0 THEN
        DELETE FROM tribox.scheduled s WHERE s.handler = p_handler AND s.name = ANY (dropped_names);
    END IF;
    INSERT INTO tribox.scheduled
           (id, due_at, expires_after, handler, name, subject, headers, payload)
    SELECT u.id,
           CASE WHEN u.at_ms IS NULL THEN now() + u.after_ms * interval '1 ms'
                ELSE to_timestamp(u.at_ms / 1000.0) END,
           u.expire_ms, p_handler, u.name, u.subject, u.headers, u.payload
      FROM unnest(ids, names, after_ms, at_ms, expire_ms, subjects, header_lines, payloads)
           AS u (id, name, after_ms, at_ms, expire_ms, subject, headers, payload);
END $$;

-- Messages set aside. They are in the inbox as well: a duplicate of one is a duplicate.
CREATE FUNCTION tribox.park(
    p_handler text, p_component integer, keys text[], states text[], tries integer[],
    retry_ms bigint[], reasons text[], errors text[], inbox_keys uuid[], ids text[],
    subjects text[], header_lists text[], payloads bytea[], stored bigint[]
) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    INSERT INTO tribox.parked (handler, key, state, attempts, next_attempt_at, reason, error,
           component, inbox_key, message_id, subject, headers, payload, stored_at)
    SELECT p_handler, u.key, u.state, u.tries, now() + u.retry_ms * interval '1 ms', u.reason,
           u.error, p_component, u.inbox_key, u.id, u.subject, u.headers::jsonb, u.payload, u.stored
      FROM unnest(keys, states, tries, retry_ms, reasons, errors, inbox_keys, ids, subjects,
                  header_lists, payloads, stored)
           AS u (key, state, tries, retry_ms, reason, error, inbox_key, id, subject, headers,
                 payload, stored);
    -- Whatever a message is to wait behind may be gone (discarded, say): then it is next.
    IF 'waiting' = ANY (states) THEN
        PERFORM tribox.wake(p_handler, k.key)
           FROM (SELECT DISTINCT u.key FROM unnest(keys, states) AS u (key, state)
                  WHERE u.state = 'waiting') AS k;
    END IF;
END $$;

-- Has a key gone on with, if the first of its messages waits behind nothing.
CREATE FUNCTION tribox.wake(p_handler text, p_key text) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    first_id bigint;
    first_state text;
BEGIN
    SELECT p.id, p.state INTO first_id, first_state FROM tribox.parked p
     WHERE p.handler = p_handler AND p.key = p_key AND p.state <> 'dead' ORDER BY p.id LIMIT 1;
    IF first_state = 'waiting' THEN
        UPDATE tribox.parked SET state = 'retrying', next_attempt_at = now() WHERE id = first_id;
    END IF;
END $$;

-- Messages to be taken up again: of these keys, one key after the other, each in order; of one
-- without a key, the one of that id. p_limit in all.
CREATE FUNCTION tribox.take_up(p_handler text, p_keys text[], p_ids bigint[], p_limit bigint)
RETURNS TABLE (asked bigint, id bigint, attempts integer, inbox_key uuid, message_id text, key text,
               subject text, headers text, payload bytea, stored_at bigint, due boolean)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    found_so_far bigint := 0;
    found_now bigint;
BEGIN
    FOR n IN 1 .. cardinality(p_ids) LOOP
        IF p_keys[n] IS NULL THEN
            RETURN QUERY
                SELECT n - 1::bigint, p.id, p.attempts, p.inbox_key, p.message_id, p.key, p.subject,
                       p.headers::text, p.payload, p.stored_at, p.next_attempt_at <= now()
                  FROM tribox.parked p
                 WHERE p.id = p_ids[n] AND p.handler = p_handler AND p.state = 'retrying';
        ELSE
            RETURN QUERY
                SELECT n - 1::bigint, p.id, p.attempts, p.inbox_key, p.message_id, p.key, p.subject,
                       p.headers::text, p.payload, p.stored_at,
                       p.state = 'waiting' OR (p.state = 'retrying' AND p.next_attempt_at <= now())
                  FROM tribox.parked p
                 WHERE p.handler = p_handler AND p.key = p_keys[n] AND p.state <> 'dead'
                 ORDER BY p.id LIMIT p_limit - found_so_far;
        END IF;
        GET DIAGNOSTICS found_now = ROW_COUNT;
        found_so_far := found_so_far + found_now;
        EXIT WHEN found_so_far >= p_limit;
    END LOOP;
END $$;

-- Has a new build of a handler try again, in order, what failed by a fault of another one.
-- Returns how many messages that are, at most p_limit.
CREATE FUNCTION tribox.heal(p_handler text, p_component integer, p_reasons text[], p_limit bigint)
RETURNS bigint
LANGUAGE sql AS $$
    WITH found AS (
        SELECT p.id, p.key, row_number() OVER (PARTITION BY p.key ORDER BY p.id) AS place
          FROM (SELECT q.id, q.key FROM tribox.parked q
                 WHERE q.handler = p_handler AND q.state IN ('dead', 'holding')
                   AND q.reason = ANY (p_reasons) AND q.component <> p_component
                 ORDER BY q.id LIMIT p_limit) AS p
    ), healed AS (
        UPDATE tribox.parked p
           SET state = CASE WHEN f.key IS NULL OR f.place = 1 THEN 'retrying' ELSE 'waiting' END,
               attempts = 0, next_attempt_at = now()
          FROM found f WHERE p.id = f.id
        RETURNING 1
    )
    SELECT count(*) FROM healed
$$;

-- Sets a message aside that no stream takes. The first of its subject is tried again by itself, less
-- and less often, and the others behind it follow it; what is too large is sent again when asked.
CREATE FUNCTION tribox.set_undelivered(
    p_writer integer, p_seq bigint, p_reason text, p_error text
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO tribox.undelivered AS u
           (id, handler, subject, headers, payload, reason, error, retry_at)
    SELECT b.id, w.handler, b.subject, b.headers, b.payload, p_reason, p_error,
           CASE WHEN p_reason <> 'too-large' AND NOT EXISTS (
                     SELECT 1 FROM tribox.undelivered e
                      WHERE e.subject = b.subject AND e.reason <> 'too-large')
                THEN now() + interval '5 s' END
      FROM tribox.outbox b JOIN tribox.writers w ON w.id = b.writer
     WHERE b.writer = p_writer AND b.seq = p_seq
    ON CONFLICT (id) DO UPDATE
       SET reason = excluded.reason, error = excluded.error, failed_at = now(),
           attempts = u.attempts + 1, resent_by = NULL, resent_seq = NULL,
           retry_at = CASE WHEN excluded.reason <> 'too-large'
                           THEN now() + least(5 * 2 ^ least(u.attempts, 10), 300) * interval '1 s'
                      END
$$;

-- Moves undelivered messages that are to be sent again into a log, in order; they stay where they are
-- until that log is published past them. Returns how many.
CREATE FUNCTION tribox.resend(
    p_writer integer, p_fence bigint, p_first bigint, p_limit bigint
) RETURNS bigint
LANGUAGE sql AS $$
    WITH fence AS (
        SELECT 1 FROM tribox.writers WHERE id = p_writer AND fence = p_fence FOR KEY SHARE
    ), due AS (
        SELECT u.id, u.position FROM tribox.undelivered u
         WHERE u.retry_at <= now() AND u.resent_seq IS NULL AND EXISTS (SELECT 1 FROM fence)
         ORDER BY u.position LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), placed AS (
        SELECT d.id, p_first + row_number() OVER (ORDER BY d.position) - 1 AS seq FROM due d
    ), moved AS (
        UPDATE tribox.undelivered u SET resent_by = p_writer, resent_seq = p.seq, retry_at = NULL
          FROM placed p WHERE u.id = p.id
        RETURNING p.seq, u.id, u.subject, u.headers, u.payload
    ), logged AS (
        INSERT INTO tribox.outbox (writer, seq, id, subject, headers, payload)
        SELECT p_writer, m.seq, m.id, m.subject, m.headers, m.payload FROM moved m
        RETURNING 1
    )
    SELECT count(*) FROM logged
$$;

-- Takes away what was sent again and is published now, and has the others of its subject follow.
-- Returns how many are gone.
CREATE FUNCTION tribox.settle_resent() RETURNS bigint
LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM tribox.undelivered u USING tribox.writers w
         WHERE u.resent_seq IS NOT NULL AND w.id = u.resent_by AND w.published >= u.resent_seq
        RETURNING u.subject
    ), follow AS (
        UPDATE tribox.undelivered u SET retry_at = now()
          FROM (SELECT DISTINCT subject FROM gone) AS g
         WHERE u.subject = g.subject AND u.reason <> 'too-large' AND u.resent_seq IS NULL
    )
    SELECT count(*) FROM gone
$$;

-- A subject of which the first message was discarded goes on with the next one.
CREATE FUNCTION tribox.wake_undelivered() RETURNS void
LANGUAGE sql AS $$
    UPDATE tribox.undelivered u SET retry_at = now()
      FROM (SELECT DISTINCT ON (subject) id, retry_at, resent_seq FROM tribox.undelivered
             WHERE reason <> 'too-large' ORDER BY subject, position) AS f
     WHERE u.id = f.id AND f.retry_at IS NULL AND f.resent_seq IS NULL
$$;

-- What came of messages that had been set aside: handled ones go, the others stay with a new state.
CREATE FUNCTION tribox.repark(
    p_component integer, handled_ids bigint[], ids bigint[], states text[], tries integer[],
    retry_ms bigint[], reasons text[], errors text[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
    updated bigint;
BEGIN
    DELETE FROM tribox.parked p WHERE p.id = ANY (handled_ids) AND p.state <> 'dead';
    GET DIAGNOSTICS touched = ROW_COUNT;
    UPDATE tribox.parked p
       SET state = u.state, attempts = u.tries, reason = u.reason, error = u.error,
           next_attempt_at = now() + u.retry_ms * interval '1 ms', component = p_component
      FROM unnest(ids, states, tries, retry_ms, reasons, errors)
           AS u (id, state, tries, retry_ms, reason, error)
     WHERE p.id = u.id AND p.state <> 'dead';
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF touched + updated <> cardinality(handled_ids) + cardinality(ids) THEN
        RAISE EXCEPTION 'a parked message was changed by somebody else' USING ERRCODE = 'TB004';
    END IF;
END $$;

-- A view of a collection for people with psql: tribox_state.accounts, say.
CREATE FUNCTION tribox.ensure_view(collection text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass(format('tribox_state.%I', collection)) IS NULL THEN
        EXECUTE format(
            'CREATE VIEW tribox_state.%I AS SELECT key, body, version FROM tribox.documents '
            'WHERE collection = %L AND body IS NOT NULL', collection, collection);
    END IF;
EXCEPTION WHEN duplicate_table THEN
    -- Another host was faster.
    NULL;
END $$;
CREATE SCHEMA IF NOT EXISTS tribox_state;

-- A document changed by hand gets a new version, so that no host takes its own copy for current. By a
-- second update after the first: a trigger before it would have every update of a commit lock its row
-- first, at a record of the log each.
CREATE FUNCTION tribox.changed_by_hand() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tribox.documents d SET version = d.version + 1
     WHERE d.collection = NEW.collection AND d.key = NEW.key;
    RETURN NULL;
END $$;
CREATE TRIGGER changed_by_hand AFTER UPDATE ON tribox.documents
    FOR EACH ROW WHEN (NEW.version = OLD.version) EXECUTE FUNCTION tribox.changed_by_hand();
