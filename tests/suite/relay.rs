//! What is committed is published: once, in order, through outages and crashes at the worst time, and
//! with nobody starting anything again.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::stream;
use futures_util::StreamExt;
use sqlx::Connection;
use tribox_tests::{FaultProxy, Stack, wait_until};

use crate::books::{self, COMMANDS, EVENTS};

on_each_nats_server!(
    what_waits_goes_out_when_the_broker_is_back,
    what_was_committed_before_a_kill_goes_out_after_it,
    a_broker_killed_under_load_costs_nothing,
    what_no_stream_takes_is_set_aside,
    what_was_set_aside_goes_out_once_there_is_a_stream,
    a_full_stream_holds_back_its_own_subjects_alone,
    a_lost_acknowledgement_is_asked_for_after_a_restart,
    a_lost_acknowledgement_is_asked_for_after_a_reconnect,
    what_has_expired_is_not_sent,
    a_transient_message_passes_by_the_outbox,
);

/// Entries that are neither published nor set aside.
const UNPUBLISHED: &str = "SELECT count(*) FROM tribox.outbox o
    JOIN tribox.writers w ON w.id = o.writer WHERE o.seq > w.published";
const COMMITTED: &str = "SELECT count(*) FROM tribox.outbox";

async fn what_waits_goes_out_when_the_broker_is_back(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "back").await?;
    books::prepare(&stack).await?;
    books::close_events(&stack).await?;
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..400).await?;
    stack.until(COMMITTED, 400).await?;
    assert_eq!(stack.broker.count(EVENTS).await?, 0);
    stack.nats.kill()?;
    wait_until("the host sees that it is gone", async || match host.get("/readyz").await {
        Ok(answer) if answer.status == 503 => Ok(()),
        Ok(answer) => Err(answer.body),
        Err(e) => Err(format!("{e:#}")),
    })
    .await?;
    stack.nats.start_again().await?;
    wait_until("events are taken", async || {
        books::open_events(&stack).await.map_err(|e| format!("{e:#}"))
    })
    .await?;
    books::audit(&stack, 400).await?;
    books::publish(&stack, 400..500).await?;
    books::audit(&stack, 500).await?;
    host.ready().await?;
    stack.until(UNPUBLISHED, 0).await?;
    host.stop().await
}

async fn what_was_committed_before_a_kill_goes_out_after_it(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "committed").await?;
    books::prepare(&stack).await?;
    books::close_events(&stack).await?;
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..400).await?;
    stack.until(COMMITTED, 400).await?;
    stack.nats.kill()?;
    host.kill()?;
    stack.nats.start_again().await?;
    books::open_events(&stack).await?;
    assert_eq!(stack.broker.count(EVENTS).await?, 0);
    let host = stack.serve().await?;
    books::audit(&stack, 400).await?;
    stack.until(UNPUBLISHED, 0).await?;
    host.stop().await
}

async fn a_broker_killed_under_load_costs_nothing(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "under-load").await?;
    books::prepare(&stack).await?;
    books::publish(&stack, 0..3_000).await?;
    let host = stack.serve().await?;
    for least in [300, 1_200] {
        stack.until_at_least(COMMITTED, least).await?;
        stack.nats.kill()?;
        stack.nats.start_again().await?;
    }
    books::audit(&stack, 3_000).await?;
    host.stop().await
}

async fn what_no_stream_takes_is_set_aside(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "nowhere").await?;
    stack.drop_in(&["chaos"])?;
    stack.config.set("handlers.chaos.lanes", 1);
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    let host = stack.serve().await?;
    for (n, verb) in ["count", "publish-nowhere", "count", "publish-nowhere"].iter().enumerate() {
        let body = format!("{{\"do\": \"{verb}\"}}");
        stack.broker.publish_as(&format!("c-{n}"), "chaos.k.do", body).await?;
    }
    // What can go out does not wait for what cannot.
    assert_eq!(stack.broker.read_when(EVENTS, 2).await?.len(), 2);
    stack.until("SELECT count(*) FROM tribox.undelivered", 2).await?;
    stack.until(UNPUBLISHED, 0).await?;
    let row: (String, String, String) =
        sqlx::query_as("SELECT handler, subject, error FROM tribox.undelivered LIMIT 1")
            .fetch_one(&stack.pool)
            .await?;
    let reason = "no stream takes subject 'nowhere.x'".to_owned();
    assert_eq!(row, ("chaos".to_owned(), "nowhere.x".to_owned(), reason));
    let ids = "SELECT count(*) FROM tribox.undelivered u JOIN tribox.outbox o ON o.id = u.id
                WHERE o.payload = u.payload";
    assert_eq!(stack.number(ids).await?, 2, "they are kept as they were");
    assert_eq!(host.metric("tribox_undelivered_total").await? as u64, 2);
    stack.broker.publish_as("c-9", "chaos.k.do", r#"{"do": "count"}"#).await?;
    assert_eq!(stack.broker.read_when(EVENTS, 3).await?[2].json()["count"], 3);
    host.stop().await
}

async fn a_lost_acknowledgement_is_asked_for_after_a_restart(nats: &Path) -> Result<()> {
    let (mut stack, proxy) = unacknowledged(nats, "asked").await?;
    let mut host = stack.serve().await?;
    lose_acknowledgements(&stack, &proxy).await?;
    host.kill()?;
    proxy.restore();
    let host = stack.serve().await?;
    books::audit(&stack, 40).await?;
    stack.until(UNPUBLISHED, 0).await?;
    host.stop().await
}

async fn a_lost_acknowledgement_is_asked_for_after_a_reconnect(nats: &Path) -> Result<()> {
    let (mut stack, proxy) = unacknowledged(nats, "reconnect").await?;
    let host = stack.serve().await?;
    lose_acknowledgements(&stack, &proxy).await?;
    proxy.cut();
    wait_until("the host sees that", async || match host.get("/readyz").await {
        Ok(answer) if answer.body.contains("publishing") => Ok(()),
        Ok(answer) => Err(answer.body),
        Err(e) => Err(format!("{e:#}")),
    })
    .await?;
    proxy.restore();
    books::audit(&stack, 40).await?;
    stack.until(UNPUBLISHED, 0).await?;
    host.stop().await
}

/// A stack whose host reaches NATS through a proxy, and whose stream of events forgets ids at once.
async fn unacknowledged(nats: &Path, name: &str) -> Result<(Stack, FaultProxy)> {
    let mut stack = Stack::on(nats, name).await?;
    stack.drop_in(&["accounts"])?;
    stack
        .broker
        .create_stream(
            COMMANDS,
            &["accounts.*.credit", "accounts.*.debit", "accounts.*.enforce-overdrawn"],
        )
        .await?;
    let events = stream::Config {
        name: EVENTS.to_owned(),
        subjects: vec!["accounts.events.*.*".to_owned(), "probe".to_owned()],
        duplicate_window: Duration::from_millis(100),
        ..Default::default()
    };
    stack.broker.create_stream_with(events).await?;
    let proxy = FaultProxy::start(stack.nats.port()).await?;
    stack.config.set("nats.url", proxy.instead_of(&stack.nats_url()));
    Ok((stack, proxy))
}

/// Events are stored and the host is not told so, for longer than their stream remembers their ids.
async fn lose_acknowledgements(stack: &Stack, proxy: &FaultProxy) -> Result<()> {
    // The commit waits for this lock; meanwhile the way back from NATS is closed.
    let mut connection = sqlx::PgConnection::connect(stack.database_url()).await?;
    let mut lock = connection.begin().await?;
    let statement = "LOCK TABLE tribox.outbox IN SHARE ROW EXCLUSIVE MODE";
    sqlx::query(statement).execute(&mut *lock).await?;
    books::publish(stack, 0..40).await?;
    let waiting = "SELECT count(*) FROM pg_locks
                    WHERE NOT granted AND relation = 'tribox.outbox'::regclass";
    stack.until_at_least(waiting, 1).await?;
    proxy.mute_server();
    lock.commit().await?;
    stack.broker.read_when(EVENTS, 1).await?;

    stack.broker.publish_as("probe", "probe", "").await?;
    stack.broker.publish_copy("probe", "probe", "").await?;
    let events = stack.broker.jetstream.get_stream(EVENTS).await?;
    assert_eq!(events.purge().filter("probe").await?.purged, 2);
    assert!(stack.number(UNPUBLISHED).await? > 0, "the host knows of no acknowledgement");
    Ok(())
}

async fn what_has_expired_is_not_sent(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "expired").await?;
    stack.drop_in(&["chaos"])?;
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    let host = stack.serve().await?;
    stack.broker.publish_as("c-1", "chaos.k.do", r#"{"do": "expire"}"#).await?;
    stack.until(COMMITTED, 1).await?;
    stack.until(UNPUBLISHED, 0).await?;
    assert_eq!(host.metric("tribox_expired_total").await? as u64, 1);
    stack.broker.publish_as("c-2", "chaos.k.do", r#"{"do": "count"}"#).await?;
    let events = stack.broker.read_when(EVENTS, 1).await?;
    assert_eq!(events[0].subject, "chaos.events.k.count");
    host.stop().await
}

async fn a_transient_message_passes_by_the_outbox(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "transient").await?;
    stack.drop_in(&["chaos"])?;
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.count"]).await?;
    let mut heard = stack.broker.client.subscribe("chaos.events.k.transient").await?;
    stack.broker.client.flush().await?;
    let host = stack.serve().await?;
    stack.broker.publish_as("c-1", "chaos.k.do", r#"{"do": "transient"}"#).await?;
    let message = tokio::time::timeout(Duration::from_secs(30), heard.next()).await?;
    let message = message.expect("the subscription goes on");
    assert_eq!(&message.payload[..], b"{}");
    let id = message.headers.and_then(|headers| headers.get("Nats-Msg-Id").cloned());
    assert_eq!(id, None, "nobody deduplicates it");
    stack.handled(1).await?;
    assert_eq!(stack.number(COMMITTED).await?, 0);
    host.stop().await
}

async fn what_was_set_aside_goes_out_once_there_is_a_stream(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "late-stream").await?;
    stack.drop_in(&["chaos"])?;
    stack.config.set("handlers.chaos.lanes", 1);
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    let host = stack.serve().await?;
    for n in 0..5 {
        let body = r#"{"do": "publish-nowhere"}"#;
        stack.broker.publish_as(&format!("c-{n}"), "chaos.k.do", body).await?;
    }
    stack.until("SELECT count(*) FROM tribox.undelivered", 5).await?;
    let waits = "SELECT count(*) FROM tribox.undelivered WHERE retry_at IS NOT NULL";
    assert!(stack.number(waits).await? <= 1, "the first one alone is tried again");
    stack.broker.create_stream("NOWHERE", &["nowhere.>"]).await?;
    let sent = stack.broker.read_when("NOWHERE", 5).await?;
    let sql = "SELECT translate(tribox.inbox_key('chaos', 'c-' || n)::text, '-', '') || '-0'
                 FROM generate_series(0, 4) AS n ORDER BY n";
    let expected: Vec<String> = sqlx::query_scalar(sql).fetch_all(&stack.pool).await?;
    let ids: Vec<String> = sent.into_iter().filter_map(|message| message.id).collect();
    assert_eq!(ids, expected, "in order");
    stack.until("SELECT count(*) FROM tribox.undelivered", 0).await?;
    wait_until("it is counted", async || match host.metric("tribox_resent_total").await {
        Ok(5.0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    host.stop().await
}

/// More than is kept in memory, so that what goes elsewhere has to get past it.
async fn a_full_stream_holds_back_its_own_subjects_alone(nats: &Path) -> Result<()> {
    const MANY: u64 = 9_000;
    let mut stack = Stack::on(nats, "full").await?;
    stack.drop_in(&["chaos"])?;
    stack.config.set("handlers.chaos.lanes", 1);
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    stack.broker.create_stream("NOWHERE", &["nowhere.>"]).await?;
    books::close_events(&stack).await?;
    let host = stack.serve().await?;
    let count = |n: u64| (format!("c-{n}"), "chaos.k.do".to_owned(), r#"{"do": "count"}"#);
    stack.broker.publish_all((0..MANY).map(count)).await?;
    let elsewhere = r#"{"do": "publish-nowhere"}"#;
    stack.broker.publish_as("elsewhere", "chaos.k.do", elsewhere).await?;
    stack.broker.read_when("NOWHERE", 1).await?;
    assert_eq!(stack.broker.count(EVENTS).await?, 0);
    assert_eq!(stack.number("SELECT count(*) FROM tribox.undelivered").await?, 0);
    books::open_events(&stack).await?;
    let events = stack.broker.read_when(EVENTS, MANY).await?;
    let counts: Vec<u64> = events.iter().filter_map(|e| e.json()["count"].as_u64()).collect();
    assert_eq!(counts, (1..=MANY).collect::<Vec<_>>());
    stack.until(UNPUBLISHED, 0).await?;
    host.stop().await
}
