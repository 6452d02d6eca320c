//! A disk that is full, under Postgres and under NATS: work stands still, and goes on when there is room
//! again, with nothing lost and nothing twice.

use std::time::Duration;

use anyhow::{Context, Result};
use tribox_tests::{Host, Server, SmallDisk, Stack, StackOptions, wait_until};

use crate::books::{self, EVENTS};

/// None where this machine allows no small disk.
async fn with_small_disk(name: &str, server: Server) -> Result<Option<Stack>> {
    let wal = [("min_wal_size", "32MB"), ("max_wal_size", "64MB")];
    let options = StackOptions {
        own_postgres: server == Server::Postgres,
        postgres: wal.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        small_disk: Some(server),
        ..StackOptions::default()
    };
    let stack = Stack::with(name, options).await?;
    if stack.disk.is_none() {
        eprintln!("{name}: skipped, since nothing can be mounted here");
        return Ok(None);
    }
    books::prepare(&stack).await?;
    Ok(Some(stack))
}

/// Waits until the host says that it is not ready for this reason.
async fn waits_for(host: &Host, words: &str) -> Result<()> {
    wait_until(&format!("readyz says {words:?}"), async || match host.get("/readyz").await {
        Ok(answer) if answer.status == 503 && answer.body.contains(words) => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
        Err(why) => Err(format!("{why:#}")),
    })
    .await
}

/// Waits until all is handled, and the host says that it cannot publish, or need not say so.
async fn meets_it(stack: &Stack, host: &Host) -> Result<()> {
    stack.until_at_least("SELECT count(*) FROM tribox.inbox", 4_000).await?;
    wait_until("publishing is refused, or done", async || {
        let told = stack.broker.count(EVENTS).await.map_err(|why| format!("{why:#}"))?;
        match host.get("/readyz").await {
            Ok(answer) if answer.status == 503 && answer.body.contains("publishing: ") => Ok(()),
            Ok(_) if told == 4_000 => Ok(()),
            other => Err(format!("{told} events, {other:?}")),
        }
    })
    .await
}

/// Fills a disk again and again: the server frees some of it now and then.
async fn stays_full(disk: &SmallDisk) -> Result<()> {
    loop {
        disk.fill()?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn of_postgres_costs_nothing() -> Result<()> {
    let Some(mut stack) = with_small_disk("disk-postgres", Server::Postgres).await? else {
        return Ok(());
    };
    let data = stack.data_directory().await?;
    stack.small_disk()?.holds(&data)?;
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..200).await?;
    books::audit(&stack, 200).await?;
    stack.small_disk()?.fill()?;
    books::publish(&stack, 200..4_000).await?;
    waits_for(&host, "postgres: ").await?;
    assert!(stack.number("SELECT count(*) FROM tribox.inbox").await.unwrap_or(0) < 4_000);
    stack.small_disk()?.make_room()?;
    // Where the log found no room, the server is down.
    if stack.number("SELECT 1").await.is_err() {
        stack.postgres.as_mut().context("no Postgres of its own")?.start_again().await?;
    }
    books::audit(&stack, 4_000).await?;
    host.ready().await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 0, "no message's fault");
    host.stop().await
}

#[tokio::test]
async fn of_nats_costs_nothing() -> Result<()> {
    let Some(mut stack) = with_small_disk("disk-nats", Server::Nats).await? else {
        return Ok(());
    };
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..200).await?;
    books::audit(&stack, 200).await?;
    stack.tool(&["pause", "accounts"])?.ok()?;
    books::publish(&stack, 200..4_000).await?;
    stack.small_disk()?.fill()?;
    stack.tool(&["resume", "accounts"])?.ok()?;
    // It is handled, and what is to be published waits, unless the server keeps all of it in memory.
    tokio::select! {
        full = stays_full(stack.small_disk()?) => full?,
        met = meets_it(&stack, &host) => met?,
    }
    stack.small_disk()?.make_room()?;
    // A server that met a full disk takes nothing more for the stream until it is started again.
    stack.nats.stop().await?;
    stack.nats.start_again().await?;
    books::audit(&stack, 4_000).await?;
    host.ready().await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 0, "no message's fault");
    host.stop().await
}
