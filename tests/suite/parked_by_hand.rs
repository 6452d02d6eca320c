//! What docs/OPERATING.md says to do with parked messages, by psql.

use anyhow::Result;
use tribox_tests::{Stack, wait_until};

/// State, attempts and reason of the one parked message.
async fn parked(stack: &Stack) -> Result<Option<(String, i32, String)>> {
    let sql = "SELECT state, attempts, reason FROM tribox.parked";
    Ok(sqlx::query_as(sql).fetch_optional(&stack.pool).await?)
}

async fn until_parked(
    stack: &Stack,
    what: &str,
    expected: Option<(&str, i32, &str)>,
) -> Result<()> {
    wait_until(what, async || {
        let found = parked(stack).await.map_err(|e| format!("{e:#}"))?;
        let found = found.as_ref().map(|(s, n, r)| (s.as_str(), *n, r.as_str()));
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await
}

/// As docs/OPERATING.md has it; the attempts count on.
async fn retry(stack: &Stack, message_id: &str) -> Result<()> {
    let sql = "UPDATE tribox.parked SET state = 'retrying', next_attempt_at = now() \
               WHERE state = 'dead' AND message_id = $1";
    sqlx::query(sql).bind(message_id).execute(&stack.pool).await?;
    Ok(())
}

#[tokio::test]
async fn a_dead_message_is_handled_once_its_cause_is_gone() -> Result<()> {
    let mut stack = Stack::new("by-hand").await?;
    stack.broker.create_stream("ITEMS", &["items.>"]).await?;
    stack.drop_in(&["items"])?;
    let host = stack.serve().await?;
    for id in ["m-1", "m-2"] {
        stack.broker.publish_as(id, "items.create", r#"{"id": "7", "name": "lamp"}"#).await?;
    }
    until_parked(&stack, "one of the two is rejected", Some(("dead", 1, "reject"))).await?;
    let rejected: String =
        sqlx::query_scalar("SELECT message_id FROM tribox.parked").fetch_one(&stack.pool).await?;
    sqlx::query("UPDATE tribox.documents SET body = NULL, deleted_at = now()")
        .execute(&stack.pool)
        .await?;
    retry(&stack, &rejected).await?;
    until_parked(&stack, "it is handled", None).await?;
    let live = "SELECT count(*) FROM tribox_state.items";
    let live: i64 = sqlx::query_scalar(live).fetch_one(&stack.pool).await?;
    assert_eq!(live, 1);
    host.stop().await
}

#[tokio::test]
async fn a_message_without_its_key_is_not_handed_over_by_a_retry() -> Result<()> {
    let mut stack = Stack::new("no-key").await?;
    stack.broker.create_stream("ACCOUNTS", &["accounts.>"]).await?;
    stack.drop_in(&["accounts"])?;
    let host = stack.serve().await?;
    let subject = format!("accounts.{}.debit", "7".repeat(1_025));
    stack.broker.publish_as("m-1", &subject, r#"{"amount": 1}"#).await?;
    until_parked(&stack, "its key is too long", Some(("dead", 1, "no-key"))).await?;
    retry(&stack, "m-1").await?;
    until_parked(&stack, "it is dead again", Some(("dead", 2, "no-key"))).await?;
    let written: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tribox.documents").fetch_one(&stack.pool).await?;
    assert_eq!(written, 0);
    host.stop().await
}
