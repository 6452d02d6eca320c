-- The tables of tribox. docs/ARCHITECTURE.md says what each is for.

CREATE TABLE tribox.nodes (
    name     text        NOT NULL,
    -- The fencing token: a process that takes the name over raises it, and every commit of the
    -- former one fails from then on. It is part of the key so that FOR KEY SHARE in a commit
    -- conflicts with a takeover and not with a heartbeat.
    epoch    bigint      NOT NULL,
    started  timestamptz NOT NULL DEFAULT now(),
    seen     timestamptz NOT NULL DEFAULT now(),
    -- Past this time, by this server's clock, others may fence it out and take over what it had.
    lease_until  timestamptz NOT NULL DEFAULT now(),
    lease_ms     bigint      NOT NULL DEFAULT 0,
    -- Since when its signs of life came without a gap as long as its lease.
    steady_since timestamptz NOT NULL DEFAULT now(),
    -- How many signs of life there were: fewer than the node knows of, and the database was restored.
    beats        bigint      NOT NULL DEFAULT 0,
    -- Which node has fenced it out, if one has.
    fenced_by    text,
    -- Who holds the name, for people: process id and host.
    holder   text        NOT NULL,
    -- Whether the process that holds the name has ended in order; a crash leaves this false.
    clean    boolean     NOT NULL DEFAULT false,
    -- When processes of this name were found to have ended otherwise, in the last hour.
    crashes  timestamptz[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (name, epoch),
    UNIQUE (name)
) WITH (fillfactor = 50);

-- After a crash: the messages that a node is handling right now. What stands here when it crashes
-- once more is suspected of being the cause.
CREATE TABLE tribox.in_hand (
    node       text    NOT NULL PRIMARY KEY,
    inbox_keys uuid[]  NOT NULL
) WITH (fillfactor = 50);

-- Messages that were in hand at a crash: handled alone from then on, and parked after another one.
CREATE TABLE tribox.suspects (
    inbox_key uuid        NOT NULL PRIMARY KEY,
    node      text        NOT NULL,
    -- At how many crashes it was in hand alone: once may be chance (somebody kills the process), three
    -- times is not.
    alone     integer     NOT NULL,
    since     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tribox.components (
    id         integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handler    text        NOT NULL,
    version    text        NOT NULL,
    digest     text        NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    UNIQUE (handler, digest)
);

-- The state. A row without a body is a tombstone: the document was deleted, or a commit had to hold
-- fast that it was not there. Versions go on over a delete, so that no stale writer passes.
CREATE TABLE tribox.documents (
    collection text   COLLATE "C" NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    body       jsonb,
    version    bigint NOT NULL DEFAULT 1,
    -- Set on tombstones alone.
    deleted_at timestamptz,
    PRIMARY KEY (collection, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- Not on body: an index that looks at it would keep updates of live documents from being HOT.
CREATE INDEX documents_deleted ON tribox.documents (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE tribox.inbox (
    key        uuid        NOT NULL PRIMARY KEY,
    handled_at timestamptz NOT NULL DEFAULT now(),
    sequence   bigint      NOT NULL,
    component  integer     NOT NULL
);
-- A turn's rows share one timestamp, so this stays small; it is what pruning walks.
CREATE INDEX inbox_handled_at ON tribox.inbox (handled_at);

-- A writer is a lane of a handler on a node; it appends to the outbox alone.
CREATE TABLE tribox.writers (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The node that appends to this log and publishes it.
    node      text    NOT NULL,
    handler   text    NOT NULL,
    -- Below zero: taken over from another node, to be published to its end and not appended to.
    lane      integer NOT NULL,
    -- Who may append to it has this number. It is raised when the log is opened, and when another node
    -- takes over. Part of a unique key, so that FOR KEY SHARE in a commit conflicts with that and not
    -- with the cursor.
    fence     bigint  NOT NULL DEFAULT 0,
    -- Since when its lane works, while it does.
    opened_at timestamptz,
    -- How many lanes the handler had when it last wrote: its keys were spread over so many logs.
    lanes     integer NOT NULL,
    -- Everything up to here is in its stream (or was set aside as undeliverable).
    published bigint  NOT NULL DEFAULT 0,
    -- Everything up to here was pruned; sequences go on from here when the log is empty.
    pruned    bigint  NOT NULL DEFAULT 0,
    UNIQUE (node, handler, lane),
    UNIQUE (id, fence)
) WITH (fillfactor = 50);

-- What one node at a time may do: handle the messages of a handler with keys, or move delayed messages
-- on, which is named '(scheduled)'. In force while the node is at this epoch and has not ended.
CREATE TABLE tribox.owners (
    unit  text        NOT NULL PRIMARY KEY,
    node  text        NOT NULL,
    epoch bigint      NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE tribox.outbox (
    writer       integer     NOT NULL,
    seq          bigint      NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    id           text        NOT NULL,
    subject      text        NOT NULL,
    -- As on the wire: `Name: value`, a line each.
    headers      text        NOT NULL,
    payload      bytea       NOT NULL,
    PRIMARY KEY (writer, seq)
);

-- Messages that no stream took. The first of a subject is tried again from time to time; the others
-- follow it, in order.
CREATE TABLE tribox.undelivered (
    id        text        NOT NULL PRIMARY KEY,
    position  bigint      GENERATED ALWAYS AS IDENTITY,
    handler   text        NOT NULL,
    subject   text        NOT NULL,
    headers   text        NOT NULL,
    payload   bytea       NOT NULL,
    -- no-stream, denied, or too-large.
    reason    text        NOT NULL,
    error     text        NOT NULL,
    attempts  integer     NOT NULL DEFAULT 1,
    failed_at timestamptz NOT NULL DEFAULT now(),
    -- When it is sent again; null: behind the first of its subject, or when it is asked for.
    retry_at  timestamptz,
    -- Where it stands in a log again, on its way.
    resent_by integer,
    resent_seq bigint
);
CREATE INDEX undelivered_resent ON tribox.undelivered (resent_by, resent_seq)
 WHERE resent_seq IS NOT NULL;
CREATE INDEX undelivered_subject ON tribox.undelivered (subject, position);
CREATE INDEX undelivered_due ON tribox.undelivered (retry_at) WHERE retry_at IS NOT NULL;

CREATE TABLE tribox.scheduled (
    id            text        NOT NULL PRIMARY KEY,
    due_at        timestamptz NOT NULL,
    expires_after bigint,
    handler       text        NOT NULL,
    name          text,
    subject       text        NOT NULL,
    headers       text        NOT NULL,
    payload       bytea       NOT NULL
);
CREATE UNIQUE INDEX scheduled_name ON tribox.scheduled (handler, name) WHERE name IS NOT NULL;
CREATE INDEX scheduled_due ON tribox.scheduled (due_at);

CREATE TABLE tribox.parked (
    -- Rows of one key are handled in the order of their ids.
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handler         text        NOT NULL,
    key             text        COLLATE "C",
    -- holding: dead, or put there to pause a key, and later messages of the key wait behind it.
    state           text        NOT NULL
                    CHECK (state IN ('retrying', 'waiting', 'holding', 'dead')),
    attempts        integer     NOT NULL,
    next_attempt_at timestamptz,
    reason          text        NOT NULL,
    error           text        NOT NULL,
    component       integer     NOT NULL,
    parked_at       timestamptz NOT NULL DEFAULT now(),
    inbox_key       uuid        NOT NULL UNIQUE,
    message_id      text        NOT NULL,
    subject         text        NOT NULL,
    headers         jsonb       NOT NULL,
    payload         bytea       NOT NULL,
    stored_at       bigint      NOT NULL
);
CREATE INDEX parked_held ON tribox.parked (handler, key, id) WHERE state <> 'dead';
CREATE INDEX parked_due ON tribox.parked (handler, next_attempt_at) WHERE state = 'retrying';
CREATE INDEX parked_dead ON tribox.parked (handler, id) WHERE state IN ('dead', 'holding');

-- What operators have thrown away, for a while.
CREATE TABLE tribox.discarded (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    discarded_at timestamptz NOT NULL DEFAULT now(),
    discarded_by text        NOT NULL,
    -- parked, undelivered, or scheduled: where it stood.
    origin       text        NOT NULL,
    handler      text        NOT NULL,
    key          text,
    message_id   text        NOT NULL,
    subject      text        NOT NULL,
    -- As it stood there: an array of pairs, or lines as on the wire.
    headers      text        NOT NULL,
    payload      bytea       NOT NULL,
    reason       text        NOT NULL,
    error        text        NOT NULL,
    attempts     integer     NOT NULL
);
CREATE INDEX discarded_at ON tribox.discarded (discarded_at);

-- Handlers that operators have paused.
CREATE TABLE tribox.paused (
    handler   text        NOT NULL PRIMARY KEY,
    paused_at timestamptz NOT NULL DEFAULT now(),
    paused_by text        NOT NULL
);

-- How far the lane of each log has handled each stream. Written with the commit, so that a database that
-- was restored to an earlier time can be told from the stream's point of view.
CREATE TABLE tribox.consumers (
    handler        text    NOT NULL,
    stream         text    NOT NULL,
    -- Unix seconds: a stream that was deleted and made anew counts from one again.
    stream_created bigint  NOT NULL,
    writer         integer NOT NULL,
    -- The highest sequence this lane has handled, and the one up to which all lanes had.
    handled        bigint  NOT NULL,
    floor          bigint  NOT NULL,
    PRIMARY KEY (handler, stream, stream_created, writer)
) WITH (fillfactor = 50);
