//! What the three servers can do: fetch, one statement, publish, acknowledge, in the largest batches,
//! with no order, no recovery and no handler to speak of.

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::work::{COMMANDS, account_of, event_subject, handle};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS limit_inbox (id text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS limit_accounts (id text PRIMARY KEY, body jsonb) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS limit_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL, subject text NOT NULL, payload bytea NOT NULL);";

const COMMIT: &str = "
WITH i AS (INSERT INTO limit_inbox SELECT unnest($1::text[])),
     a AS (INSERT INTO limit_accounts AS t (id, body)
           SELECT * FROM (SELECT DISTINCT ON (k) k, b::jsonb FROM unnest($2::text[], $3::text[]) AS u (k, b)) AS d
           ON CONFLICT (id) DO UPDATE
           SET body = jsonb_set(jsonb_set(t.body, '{balance}', to_jsonb((t.body->>'balance')::bigint + $7)),
                                '{changes}', to_jsonb((t.body->>'changes')::bigint + $7)))
INSERT INTO limit_outbox (message_id, subject, payload)
SELECT * FROM unnest($4::text[], $5::text[], $6::bytea[])";

/// Runs until it is killed.
pub async fn run(database: &str, nats: &str, workers: usize, batch: usize) -> Result<()> {
    let connections = u32::try_from(workers)?;
    let pool = PgPoolOptions::new().max_connections(connections).connect(database).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let jetstream = jetstream::new(async_nats::connect(nats).await?);
    let config = consumer::pull::Config {
        durable_name: Some("limit".to_owned()),
        max_ack_pending: 16_384,
        ..Default::default()
    };
    let stream = jetstream.get_stream(COMMANDS).await?;
    let consumer: consumer::PullConsumer = stream.create_consumer(config).await?;
    let works = (0..workers).map(|_| work(&pool, &jetstream, &consumer, batch));
    futures_util::future::try_join_all(works).await?;
    Ok(())
}

async fn work(
    pool: &PgPool,
    jetstream: &jetstream::Context,
    consumer: &consumer::PullConsumer,
    batch: usize,
) -> Result<()> {
    loop {
        let fetched = consumer.fetch().max_messages(batch).messages().await?;
        let messages: Vec<jetstream::Message> =
            fetched.map_err(anyhow::Error::from_boxed).try_collect().await?;
        if messages.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        commit(pool, jetstream, &messages).await?;
        for message in &messages {
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
        }
    }
}

async fn commit(
    pool: &PgPool,
    jetstream: &jetstream::Context,
    messages: &[jetstream::Message],
) -> Result<()> {
    let mut columns: [Vec<String>; 4] = Default::default();
    let mut events = Vec::with_capacity(messages.len());
    for message in messages {
        let headers = message.headers.as_ref().context("no headers")?;
        let account = account_of(&message.subject);
        let (document, event) = handle(account, None, &message.payload)?;
        columns[0].push(headers.get("Nats-Msg-Id").context("no id")?.to_string());
        columns[1].push(account.to_owned());
        columns[2].push(document);
        columns[3].push(event_subject(account));
        events.push(event);
    }
    let [ids, accounts, documents, subjects] = columns;
    sqlx::query(COMMIT)
        .bind(&ids)
        .bind(&accounts)
        .bind(&documents)
        .bind(&ids)
        .bind(&subjects)
        .bind(&events)
        .bind(1_i64)
        .execute(pool)
        .await?;
    let mut acks = Vec::with_capacity(messages.len());
    for ((id, subject), event) in ids.iter().zip(subjects).zip(events) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        acks.push(jetstream.publish_with_headers(subject, headers, event.into()).await?);
    }
    futures_util::stream::iter(acks)
        .then(IntoFuture::into_future)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}
