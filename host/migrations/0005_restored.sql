-- What is to be known after the database was restored to an earlier time.

-- Messages that stood in their streams when a consumer was set back: handling their causes again would
-- send them again, and JetStream may have forgotten their ids.
CREATE TABLE tribox.already_sent (
    id        text        NOT NULL PRIMARY KEY,
    -- The message that sends it.
    inbox_key uuid        NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT now()
);
