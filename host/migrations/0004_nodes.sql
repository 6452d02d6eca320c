-- Many nodes on one database: who lives, who may do what, and what becomes of what a dead one left. All
-- times are this server's: the clocks of nodes are not asked.

-- A number that is higher than any that was given before, also where the database was restored to an
-- earlier time and a number is given twice.
CREATE FUNCTION tribox.new_fence(old bigint) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT greatest(old + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

-- Notes that a process ended otherwise than in order: what it had in hand is suspected, and how often a
-- suspect was in hand alone is counted.
CREATE FUNCTION tribox.note_crash(p_name text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    hand uuid[];
BEGIN
    SELECT h.inbox_keys INTO hand FROM tribox.in_hand h WHERE h.node = p_name;
    INSERT INTO tribox.suspects AS s (inbox_key, node, alone)
    SELECT DISTINCT k, p_name, 0 FROM unnest(hand) AS k
     WHERE NOT EXISTS (SELECT 1 FROM tribox.inbox i WHERE i.key = k)
        OR EXISTS (SELECT 1 FROM tribox.parked p WHERE p.inbox_key = k)
    ON CONFLICT (inbox_key) DO UPDATE
       SET alone = s.alone + CASE WHEN cardinality(hand) = 1 THEN 1 ELSE 0 END;
    UPDATE tribox.nodes n
       SET crashes = now() || ARRAY(SELECT c FROM unnest(n.crashes) AS c
                                     WHERE c > now() - interval '1 hour' ORDER BY c DESC LIMIT 99)
     WHERE n.name = p_name;
END $$;

-- Takes a node name, over from whoever has it: that one can append to no log any more.
CREATE FUNCTION tribox.register_node(p_name text, p_holder text, p_lease_ms bigint)
RETURNS TABLE (epoch bigint, crashes integer)
LANGUAGE plpgsql AS $$
DECLARE
    was tribox.nodes%ROWTYPE;
BEGIN
    INSERT INTO tribox.nodes AS n (name, epoch, holder, clean) VALUES (p_name, 0, p_holder, true)
    ON CONFLICT (name) DO NOTHING;
    SELECT n.* INTO was FROM tribox.nodes n WHERE n.name = p_name FOR UPDATE;
    IF NOT was.clean THEN
        PERFORM tribox.note_crash(p_name);
    END IF;
    DELETE FROM tribox.in_hand h WHERE h.node = p_name;
    UPDATE tribox.writers w SET fence = tribox.new_fence(w.fence) WHERE w.node = p_name;
    RETURN QUERY
        UPDATE tribox.nodes n
           SET epoch = n.epoch + 1, started = now(), seen = now(), holder = p_holder, clean = false,
               lease_until = now() + p_lease_ms * interval '1 ms', lease_ms = p_lease_ms,
               steady_since = now(), fenced_by = NULL
         WHERE n.name = p_name
        RETURNING n.epoch,
                  (SELECT count(*)::integer FROM unnest(n.crashes) AS c
                    WHERE c > now() - interval '1 hour');
END $$;

-- Fences out every node whose lease is over, and takes over the logs that nobody publishes any more.
-- Only a node does that whose own signs of life came without a gap for as long as that lease: where the
-- database was away, everybody's lease is over, and nobody is dead for it. Returns who was fenced out.
CREATE FUNCTION tribox.bury(p_node text, p_epoch bigint)
RETURNS TABLE (name text, holder text, silent_ms bigint)
LANGUAGE plpgsql AS $$
DECLARE
    me tribox.nodes%ROWTYPE;
    dead tribox.nodes%ROWTYPE;
BEGIN
    SELECT n.* INTO me FROM tribox.nodes n
     WHERE n.name = p_node AND n.epoch = p_epoch AND n.lease_until >= now() FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR dead IN
        SELECT n.* FROM tribox.nodes n
         WHERE n.name <> p_node AND NOT n.clean AND n.lease_until < now()
           AND me.steady_since <= now() - n.lease_ms * interval '1 ms'
         ORDER BY n.name FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM tribox.note_crash(dead.name);
        DELETE FROM tribox.in_hand h WHERE h.node = dead.name;
        UPDATE tribox.nodes n SET epoch = n.epoch + 1, clean = true, fenced_by = p_node
         WHERE n.name = dead.name;
        -- Waits for its commits that are under way; from here on they fail.
        UPDATE tribox.writers w SET fence = tribox.new_fence(w.fence) WHERE w.node = dead.name;
        name := dead.name;
        holder := dead.holder;
        silent_ms := (extract(epoch FROM now() - dead.seen) * 1000)::bigint;
        RETURN NEXT;
    END LOOP;
    UPDATE tribox.writers w
       SET node = p_node, lane = -w.id, fence = tribox.new_fence(w.fence), opened_at = NULL
      FROM tribox.nodes n
     WHERE n.name = w.node AND n.name <> p_node AND n.clean
       AND EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id AND b.seq > w.published);
END $$;

-- Has a node own a unit, unless another one does: that one is named. `crashes`: how often the node it
-- was taken from has crashed in the last hour.
CREATE FUNCTION tribox.claim(p_node text, p_epoch bigint, p_unit text)
RETURNS TABLE (owned boolean, owner text, crashes integer)
LANGUAGE plpgsql AS $$
DECLARE
    held tribox.owners%ROWTYPE;
    fresh boolean := false;
BEGIN
    owned := true;
    owner := p_node;
    crashes := 0;
    -- Nothing is locked while another node owns it: this is asked several times a second.
    SELECT o.* INTO held FROM tribox.owners o JOIN tribox.nodes n ON n.name = o.node
     WHERE o.unit = p_unit AND n.epoch = o.epoch AND NOT n.clean;
    IF NOT FOUND THEN
        PERFORM 1 FROM tribox.nodes n
          WHERE n.name = p_node AND n.epoch = p_epoch AND NOT n.clean FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'node % is no longer at epoch %', p_node, p_epoch
                USING ERRCODE = 'TB001';
        END IF;
        INSERT INTO tribox.owners (unit, node, epoch) VALUES (p_unit, p_node, p_epoch)
        ON CONFLICT (unit) DO NOTHING;
        fresh := FOUND;
        SELECT o.* INTO held FROM tribox.owners o WHERE o.unit = p_unit FOR UPDATE;
        IF NOT fresh AND NOT EXISTS (SELECT 1 FROM tribox.nodes n
                                      WHERE n.name = held.node AND n.epoch = held.epoch
                                        AND NOT n.clean)
        THEN
            fresh := true;
            SELECT count(*)::integer INTO crashes FROM tribox.nodes n, unnest(n.crashes) AS c
             WHERE n.name = held.node AND n.fenced_by IS NOT NULL
               AND c > now() - interval '1 hour';
            UPDATE tribox.owners o SET node = p_node, epoch = p_epoch, since = now()
             WHERE o.unit = p_unit;
        END IF;
        IF fresh THEN
            -- Whoever had it can append to its logs no more: also a commit that is still on its way.
            UPDATE tribox.writers w SET fence = tribox.new_fence(w.fence) WHERE w.handler = p_unit;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    owned := held.node = p_node AND held.epoch = p_epoch;
    owner := held.node;
    RETURN NEXT;
END $$;

-- Opens a log for appending, making it where it is new; `p_owned`: for a unit, which the node must own.
CREATE FUNCTION tribox.open_writer(
    p_node text, p_epoch bigint, p_handler text, p_lane integer, p_lanes integer, p_owned boolean
) RETURNS TABLE (id integer, fence bigint, published bigint, last bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM tribox.nodes n WHERE n.name = p_node AND n.epoch = p_epoch FOR KEY SHARE;
    IF FOUND AND p_owned THEN
        PERFORM 1 FROM tribox.owners o
          WHERE o.unit = p_handler AND o.node = p_node AND o.epoch = p_epoch FOR SHARE;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % at epoch % may not write for %', p_node, p_epoch, p_handler
            USING ERRCODE = 'TB001';
    END IF;
    RETURN QUERY
        WITH opened AS (
            INSERT INTO tribox.writers AS w (node, handler, lane, lanes, fence, opened_at)
            VALUES (p_node, p_handler, p_lane, p_lanes, tribox.new_fence(0), now())
            ON CONFLICT (node, handler, lane) DO UPDATE
               SET lanes = excluded.lanes, fence = tribox.new_fence(w.fence), opened_at = now()
            RETURNING w.id, w.fence, w.published, w.pruned
        )
        SELECT o.id, o.fence, o.published,
               greatest(o.published, o.pruned,
                        coalesce((SELECT max(b.seq) FROM tribox.outbox b WHERE b.writer = o.id), 0))
          FROM opened o;
END $$;

-- Logs that were taken over, published, and are past their retention go, and so do positions that others
-- are beyond. Returns how many logs.
CREATE FUNCTION tribox.prune_writers() RETURNS bigint
LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM tribox.writers w
         WHERE w.lane < 0 AND NOT EXISTS (SELECT 1 FROM tribox.outbox b WHERE b.writer = w.id)
           AND NOT EXISTS (SELECT 1 FROM tribox.undelivered u WHERE u.resent_by = w.id)
        RETURNING w.id
    ), positions AS (
        DELETE FROM tribox.consumers c USING gone g
         WHERE c.writer = g.id AND EXISTS (
               SELECT 1 FROM tribox.consumers d
                WHERE d.handler = c.handler AND d.stream = c.stream
                  AND d.stream_created = c.stream_created AND d.writer <> c.writer
                  AND d.writer NOT IN (SELECT id FROM gone)
                  AND d.handled >= c.handled AND d.floor >= c.floor)
    )
    SELECT count(*) FROM gone
$$;
