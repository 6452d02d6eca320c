//! What the three servers can do: fetch, one statement, publish, acknowledge, in the largest batches,
//! with no order, no recovery and no handler to speak of. Acknowledgements of publishing come to an
//! inbox of its own and are only counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, consumer};
use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::work::{COMMANDS, account_of, event_subject, handle};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS limit_inbox (id text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS limit_accounts (id text PRIMARY KEY, body jsonb) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS limit_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL, subject text NOT NULL, payload bytea NOT NULL);";

/// Of an account that is in a batch more than once, the counts add up and one body stays. In the order
/// of accounts, so that two workers do not wait for one another.
const COMMIT: &str = "
WITH i AS (INSERT INTO limit_inbox SELECT unnest($1::text[])),
     a AS (INSERT INTO limit_accounts AS t (id, body)
           SELECT k, jsonb_set(jsonb_set(min(b)::jsonb, '{balance}', to_jsonb(count(*))),
                               '{changes}', to_jsonb(count(*)))
             FROM unnest($2::text[], $3::text[]) AS u (k, b) GROUP BY k ORDER BY k
           ON CONFLICT (id) DO UPDATE
           SET body = excluded.body || jsonb_build_object(
               'balance', (t.body->>'balance')::bigint + (excluded.body->>'balance')::bigint,
               'changes', (t.body->>'changes')::bigint + (excluded.body->>'changes')::bigint))
INSERT INTO limit_outbox (message_id, subject, payload)
SELECT * FROM unnest($1::text[], $4::text[], $5::bytea[])";

/// How long the server is asked to wait for a message.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is killed.
pub async fn run(database: &str, nats: &str, workers: usize, batch: usize) -> Result<()> {
    let connections = u32::try_from(workers)?;
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .connect(database)
        .await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let client = async_nats::connect(nats).await?;
    let config = consumer::pull::Config {
        durable_name: Some("limit".to_owned()),
        max_ack_pending: 16_384,
        ..Default::default()
    };
    let stream = jetstream::new(client.clone()).get_stream(COMMANDS).await?;
    let consumer: consumer::PullConsumer = stream.create_consumer(config).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let inbox = client.new_inbox();
        let acks = client.subscribe(inbox.clone()).await?;
        let worker = Worker { pool: pool.clone(), client: client.clone(), inbox, acks };
        tasks.spawn(worker.work(consumer.clone(), batch));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

struct Worker {
    pool: PgPool,
    client: Client,
    inbox: String,
    acks: Subscriber,
}

impl Worker {
    async fn work(mut self, consumer: consumer::PullConsumer, batch: usize) -> Result<()> {
        loop {
            let fetched = consumer.fetch().max_messages(batch).messages().await?;
            let mut messages: Vec<jetstream::Message> =
                fetched.map_err(anyhow::Error::from_boxed).try_collect().await?;
            if messages.is_empty() {
                // Nothing is there: wait for one.
                let fetched = consumer.batch().max_messages(1).expires(PAUSE).messages().await?;
                messages = fetched.map_err(anyhow::Error::from_boxed).try_collect().await?;
            }
            if messages.is_empty() {
                continue;
            }
            self.one(&messages).await?;
            for message in messages {
                let reply = message.message.reply.context("no reply subject")?;
                self.client.publish(reply, "+ACK".into()).await?;
            }
        }
    }

    async fn one(&mut self, messages: &[jetstream::Message]) -> Result<()> {
        let mut columns: [Vec<&str>; 2] = Default::default();
        let (mut documents, mut subjects, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            let headers = message.headers.as_ref().context("no headers")?;
            let account = account_of(&message.subject);
            let (document, event) = handle(account, None, &message.payload)?;
            columns[0].push(headers.get("Nats-Msg-Id").context("no id")?.as_str());
            columns[1].push(account);
            documents.push(document);
            subjects.push(event_subject(account));
            events.push(event);
        }
        let [ids, accounts] = columns;
        sqlx::query(COMMIT)
            .bind(&ids)
            .bind(&accounts)
            .bind(&documents)
            .bind(&subjects)
            .bind(&events)
            .execute(&self.pool)
            .await?;
        for ((id, subject), event) in ids.iter().zip(subjects).zip(events) {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", *id);
            let (client, to) = (&self.client, self.inbox.clone());
            client.publish_with_reply_and_headers(subject, to, headers, event.into()).await?;
        }
        for _ in messages {
            let ack = self.acks.next().await.context("the connection was closed")?;
            let stored = ack.status.is_none() && !ack.payload.windows(7).any(|w| w == b"\"error\"");
            ensure!(stored, "an event was not stored: {:?}", ack.payload);
        }
        Ok(())
    }
}
