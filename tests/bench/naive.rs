//! The service that a good engineer writes by hand: a transaction a message, an inbox, an outbox, a
//! relay that polls it. As fast as that goes: prepared statements, a pool, messages in parallel on
//! all processors, room in the table for updates in place, a relay that sends 500 at a time.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Row};

use crate::work::{COMMANDS, account_of, event_subject, handle};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS naive_inbox (id text PRIMARY KEY, handled_at timestamptz DEFAULT now());
CREATE TABLE IF NOT EXISTS naive_accounts (id text PRIMARY KEY, body jsonb) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS naive_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL, subject text NOT NULL, payload bytea NOT NULL);";

/// Runs until it is killed.
pub async fn run(database: &str, nats: &str, tasks: usize) -> Result<()> {
    let connections = u32::try_from(tasks)? + 1;
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .connect(database)
        .await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let jetstream = jetstream::new(async_nats::connect(nats).await?);
    let config = consumer::pull::Config {
        durable_name: Some("naive".to_owned()),
        max_ack_pending: 4_096,
        ..Default::default()
    };
    let consumer = jetstream.get_stream(COMMANDS).await?.create_consumer(config).await?;
    let messages = consumer.stream().max_messages_per_batch(1_024).messages().await?;
    let relaying = tokio::spawn({
        let pool = pool.clone();
        async move { relay(&pool, &jetstream).await }
    });
    // Each on a task of its own, so that all processors work.
    let handling = messages
        .map(|message| {
            let pool = pool.clone();
            tokio::spawn(async move { one(&pool, message?).await })
        })
        .buffer_unordered(tasks)
        .map(|joined| joined.map_err(anyhow::Error::from).flatten())
        .try_for_each(|()| std::future::ready(Ok(())));
    tokio::select! {
        handled = handling => handled,
        relayed = relaying => relayed?,
    }
}

/// One message, one transaction.
async fn one(pool: &PgPool, message: jetstream::Message) -> Result<()> {
    let headers = message.headers.as_ref().context("no headers")?;
    let id = headers.get("Nats-Msg-Id").context("no id")?.to_string();
    let account = account_of(&message.subject);
    let mut transaction = pool.begin().await?;
    let fresh = sqlx::query("INSERT INTO naive_inbox (id) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    if fresh.rows_affected() == 1 {
        let document = locked(&mut transaction, account).await?;
        let (document, event) = handle(account, document.as_deref(), &message.payload)?;
        sqlx::query("UPDATE naive_accounts SET body = $2::text::jsonb WHERE id = $1")
            .bind(account)
            .bind(document)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO naive_outbox (message_id, subject, payload) VALUES ($1, $2, $3)")
            .bind(&id)
            .bind(event_subject(account))
            .bind(event)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    message.ack().await.map_err(anyhow::Error::from_boxed)
}

/// The document of an account, locked.
async fn locked(connection: &mut PgConnection, account: &str) -> Result<Option<String>> {
    let select = "SELECT body::text FROM naive_accounts WHERE id = $1 FOR UPDATE";
    let query = sqlx::query_scalar::<_, Option<String>>(select).bind(account);
    if let Some(document) = query.fetch_optional(&mut *connection).await? {
        return Ok(document);
    }
    // Nothing to lock: without this row the first two messages of an account would both find none.
    sqlx::query("INSERT INTO naive_accounts (id) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(account)
        .execute(&mut *connection)
        .await?;
    Ok(sqlx::query_scalar(select).bind(account).fetch_one(&mut *connection).await?)
}

/// Publishes what the outbox has, and removes it.
async fn relay(pool: &PgPool, jetstream: &jetstream::Context) -> Result<()> {
    loop {
        let mut transaction = pool.begin().await?;
        let rows = sqlx::query(
            "DELETE FROM naive_outbox WHERE id IN (
                 SELECT id FROM naive_outbox ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED)
             RETURNING id, message_id, subject, payload",
        )
        .fetch_all(&mut *transaction)
        .await?;
        if rows.is_empty() {
            transaction.rollback().await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let mut acks = Vec::with_capacity(rows.len());
        for row in rows {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", row.try_get::<&str, _>("message_id")?);
            let subject: String = row.try_get("subject")?;
            let payload: Vec<u8> = row.try_get("payload")?;
            acks.push(jetstream.publish_with_headers(subject, headers, payload.into()).await?);
        }
        for ack in acks {
            ack.await?;
        }
        transaction.commit().await?;
    }
}
