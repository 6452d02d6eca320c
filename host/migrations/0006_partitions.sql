-- Handlers with keys in partitions, and units spread evenly over the nodes.

-- A unit is what one node at a time works on: a handler with keys, named like it, or a partition of one,
-- such as 'accounts/2of4'. In tribox.consumers, too, partitions stand under the names of units.
CREATE FUNCTION tribox.handler_of(unit text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT split_part(unit, '/', 1) $$;

-- Into how many partitions a unit's handler is split; empty: it is not.
CREATE FUNCTION tribox.layout_of(unit text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT split_part(split_part(unit, '/', 2), 'of', 2) $$;

ALTER TABLE tribox.writers ADD COLUMN unit text;
UPDATE tribox.writers SET unit = handler;
ALTER TABLE tribox.writers
    ALTER COLUMN unit SET NOT NULL,
    DROP CONSTRAINT writers_node_handler_lane_key,
    ADD CONSTRAINT writers_node_unit_lane_key UNIQUE (node, unit, lane);

-- The units that a node works on or stands by for, as it said last.
ALTER TABLE tribox.nodes ADD COLUMN wants text[] NOT NULL DEFAULT '{}';

-- Who owns what, in force.
CREATE VIEW tribox.held AS
    SELECT o.unit, o.node, o.since FROM tribox.owners o
      JOIN tribox.nodes n ON n.name = o.node AND n.epoch = o.epoch AND NOT n.clean;

-- How many units of handlers a node owns.
CREATE FUNCTION tribox.load_of(p_node text) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM tribox.held h WHERE h.node = p_node AND h.unit NOT LIKE '(%'
$$;

-- Another node that stands by for a unit and owns less; none: null.
CREATE FUNCTION tribox.rather(p_node text, p_unit text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT n.name FROM tribox.nodes n
     WHERE n.name <> p_node AND NOT n.clean AND n.lease_until > now() AND p_unit = ANY (n.wants)
       AND tribox.load_of(n.name) < tribox.load_of(p_node)
     ORDER BY tribox.load_of(n.name), n.name LIMIT 1
$$;

-- The unit that a node should give up, for another one stands by for it that owns at least two less: one
-- at a time of all nodes, and only while every wanted unit is owned. One of which messages cannot be
-- published now stays: giving it up waits for them. Null: none.
CREATE FUNCTION tribox.surplus(p_node text) RETURNS text
LANGUAGE sql STABLE AS $$
    WITH live AS (
        SELECT n.name, n.wants, tribox.load_of(n.name) AS load FROM tribox.nodes n
         WHERE NOT n.clean AND n.lease_until > now()
    ), move AS (
        SELECT h.node, h.unit FROM tribox.held h
          JOIN live giver ON giver.name = h.node
          JOIN live taker ON taker.name <> h.node AND h.unit = ANY (taker.wants)
         WHERE giver.load >= taker.load + 2
           AND NOT EXISTS (SELECT 1 FROM tribox.writers w JOIN tribox.outbox b ON b.writer = w.id
                            WHERE w.unit = h.unit AND b.seq > w.published
                              AND b.committed_at < now() - interval '5 s')
         ORDER BY giver.load - taker.load DESC, giver.name, taker.load,
                  -- Of the handler of which it has most.
                  (SELECT count(*) FROM tribox.held k
                    WHERE k.node = h.node
                      AND tribox.handler_of(k.unit) = tribox.handler_of(h.unit)) DESC, h.unit
         LIMIT 1
    )
    SELECT m.unit FROM move m
     WHERE m.node = p_node AND NOT EXISTS (
           SELECT 1 FROM live l, unnest(l.wants) AS w (unit)
            WHERE NOT EXISTS (SELECT 1 FROM tribox.held k WHERE k.unit = w.unit)
              AND NOT EXISTS (SELECT 1 FROM tribox.held k
                               WHERE tribox.handler_of(k.unit) = tribox.handler_of(w.unit)
                                 AND tribox.layout_of(k.unit) <> tribox.layout_of(w.unit)))
$$;

-- As before; and nobody takes a unit while another node stands by for it that owns less, or while a node
-- owns a unit of another layout of the handler: a key would be worked on twice.
CREATE OR REPLACE FUNCTION tribox.claim(p_node text, p_epoch bigint, p_unit text)
RETURNS TABLE (owned boolean, owner text, crashes integer)
LANGUAGE plpgsql AS $$
DECLARE
    held tribox.owners%ROWTYPE;
    other text;
    fresh boolean := false;
BEGIN
    owned := true;
    owner := p_node;
    crashes := 0;
    -- Nothing is locked while another node owns it: this is asked several times a second.
    SELECT o.* INTO held FROM tribox.owners o JOIN tribox.nodes n ON n.name = o.node
     WHERE o.unit = p_unit AND n.epoch = o.epoch AND NOT n.clean;
    IF NOT FOUND THEN
        other := tribox.rather(p_node, p_unit);
        IF other IS NOT NULL THEN
            owned := false;
            owner := other;
            RETURN NEXT;
            RETURN;
        END IF;
        PERFORM 1 FROM tribox.nodes n
          WHERE n.name = p_node AND n.epoch = p_epoch AND NOT n.clean FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'node % is no longer at epoch %', p_node, p_epoch
                USING ERRCODE = 'TB001';
        END IF;
        -- Claims for one handler come one after the other, so that two layouts are not taken at once.
        PERFORM pg_advisory_xact_lock(hashtextextended('tribox/' || tribox.handler_of(p_unit), 0));
        SELECT h.node INTO other FROM tribox.held h
         WHERE tribox.handler_of(h.unit) = tribox.handler_of(p_unit)
           AND tribox.layout_of(h.unit) <> tribox.layout_of(p_unit) LIMIT 1;
        IF FOUND THEN
            owned := false;
            owner := other;
            RETURN NEXT;
            RETURN;
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
            UPDATE tribox.writers w SET fence = tribox.new_fence(w.fence) WHERE w.unit = p_unit;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    owned := held.node = p_node AND held.epoch = p_epoch;
    owner := held.node;
    RETURN NEXT;
END $$;

-- As before, by unit.
CREATE OR REPLACE FUNCTION tribox.open_writer(
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
            INSERT INTO tribox.writers AS w (node, handler, unit, lane, lanes, fence, opened_at)
            VALUES (p_node, tribox.handler_of(p_handler), p_handler, p_lane, p_lanes,
                    tribox.new_fence(0), now())
            ON CONFLICT (node, unit, lane) DO UPDATE
               SET lanes = excluded.lanes, fence = tribox.new_fence(w.fence), opened_at = now()
            RETURNING w.id, w.fence, w.published, w.pruned
        )
        SELECT o.id, o.fence, o.published,
               greatest(o.published, o.pruned,
                        coalesce((SELECT max(b.seq) FROM tribox.outbox b WHERE b.writer = o.id), 0))
          FROM opened o;
END $$;

-- As before; under the name of the log's unit.
CREATE OR REPLACE FUNCTION tribox.advance(
    p_handler text, p_writer integer, streams text[], created bigint[], handled_to bigint[],
    floors bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tribox.consumers AS c (handler, stream, stream_created, writer, handled, floor)
    SELECT w.unit, u.stream, u.created, p_writer, u.handled, u.floor
      FROM unnest(streams, created, handled_to, floors) AS u (stream, created, handled, floor)
      JOIN tribox.writers w ON w.id = p_writer
    ON CONFLICT (handler, stream, stream_created, writer) DO UPDATE
       SET handled = greatest(c.handled, excluded.handled), floor = greatest(c.floor, excluded.floor);
END $$;
