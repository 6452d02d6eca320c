//! What a host leaves behind: messages of a handler that is gone, and parked messages that outlast
//! the inbox's memory.

use std::time::Duration;

use anyhow::Result;
use tribox::store::{self, Postgres, Statements};
use tribox_tests::{Stack, wait_until};

#[tokio::test]
async fn messages_of_a_handler_that_is_gone_are_published() -> Result<()> {
    let mut stack = Stack::new("leftovers").await?;
    stack.broker.create_stream("COMMANDS", &["items.create"]).await?;
    stack.drop_in(&["items"])?;
    let mut host = stack.serve().await?;
    // No stream takes items.created: it stays in the outbox.
    stack.broker.publish_as("m-1", "items.create", r#"{"id": "7", "name": "lamp"}"#).await?;
    wait_until("the effects are committed", async || {
        let sql = "SELECT count(*) FROM tribox.outbox";
        let count: i64 =
            sqlx::query_scalar(sql).fetch_one(&stack.pool).await.map_err(|e| e.to_string())?;
        if count == 1 { Ok(()) } else { Err(format!("{count} messages in the outbox")) }
    })
    .await?;
    host.kill()?;

    std::fs::remove_file(stack.plugins().join("items.wasm"))?;
    stack.broker.create_stream("EVENTS", &["items.created"]).await?;
    let host = stack.serve().await?;
    wait_until("the event is in its stream", async || match stack.broker.count("EVENTS").await {
        Ok(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    host.stop().await
}

#[tokio::test]
async fn a_parked_message_is_remembered_for_as_long_as_it_is_parked() -> Result<()> {
    let stack = Stack::new("remembered").await?;
    let sql = "WITH old AS (
            INSERT INTO tribox.inbox (key, handled_at, sequence, component)
            SELECT tribox.inbox_key('h', id), now() - interval '9 days', 1, 1
              FROM unnest(ARRAY['parked', 'handled']) AS id RETURNING key)
        INSERT INTO tribox.parked (handler, state, attempts, reason, error, component, inbox_key,
                                   message_id, subject, headers, payload, stored_at)
        SELECT 'h', 'dead', 1, 'reject', '', 1, key, 'parked', 's', '[]', '', 0
          FROM old WHERE key = tribox.inbox_key('h', 'parked')";
    sqlx::query(sql).execute(&stack.pool).await?;
    let pool = store::connect(stack.database_url(), 2, Statements::Prepared).await?;
    let registered = store::register(&pool, "pruner", "a test", Duration::from_secs(60)).await?;
    let store = Postgres::new(pool, 2, registered.node);
    let week = Duration::from_secs(7 * 24 * 3_600);
    assert_eq!(store.prune_inbox(week).await?, 1);
    assert_eq!(store.prune_inbox(week).await?, 0);
    sqlx::query("DELETE FROM tribox.parked").execute(&stack.pool).await?;
    assert_eq!(store.prune_inbox(week).await?, 1);
    Ok(())
}
