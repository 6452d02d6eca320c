//! Tests share a Postgres and still see nothing of each other.

use anyhow::Result;
use tribox::servers::NatsOptions;
use tribox_tests::{FaultProxy, Stack, StackOptions, programs, wait_until};

async fn tables(stack: &Stack) -> Result<i64> {
    let sql = "SELECT count(*) FROM pg_tables WHERE schemaname = 'tribox'";
    Ok(sqlx::query_scalar(sql).fetch_one(&stack.pool).await?)
}

#[tokio::test]
async fn each_stack_has_a_migrated_database_and_a_broker_of_its_own() -> Result<()> {
    let (one, two) = tokio::try_join!(Stack::new("one"), Stack::new("two"))?;
    sqlx::query("DROP TABLE tribox.inbox").execute(&one.pool).await?;
    assert_eq!(tables(&one).await? + 1, tables(&two).await?);
    one.broker.create_stream("S", &["s.>"]).await?;
    assert!(one.broker.publish_as("1", "s.a", "first").await?.sequence == 1);
    assert!(one.broker.publish_as("1", "s.a", "first").await?.duplicate);
    one.broker.publish("s.b", "second").await?;
    let stored = one.broker.read("S").await?;
    let seen: Vec<_> = stored.iter().map(|m| (m.subject.as_str(), m.id.as_deref())).collect();
    assert_eq!(seen, [("s.a", Some("1")), ("s.b", None)]);
    assert!(two.broker.read("S").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_broker_client_survives_a_crash_of_its_server() -> Result<()> {
    let nats =
        NatsOptions { program: Some(programs::oldest_nats_server()), ..NatsOptions::default() };
    let mut stack = Stack::with("crash", StackOptions { nats, ..StackOptions::default() }).await?;
    stack.broker.create_stream("S", &["s"]).await?;
    stack.broker.publish("s", "kept").await?;
    stack.nats.kill()?;
    stack.nats.start_again().await?;
    let count = wait_until("the stream answers", async || {
        stack.broker.count("S").await.map_err(|e| format!("{e:#}"))
    });
    assert_eq!(count.await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_database_behind_a_proxy_can_be_cut_off() -> Result<()> {
    let stack = Stack::with("proxy", StackOptions { own_postgres: true, ..Default::default() });
    let stack = stack.await?;
    let postgres = stack.postgres.as_ref().map(|p| p.port()).unwrap();
    let proxy = FaultProxy::start(postgres).await?;
    let pool = sqlx::PgPool::connect(&proxy.instead_of(stack.database_url())).await?;
    sqlx::query("SELECT 1").execute(&pool).await?;
    proxy.refuse();
    assert!(sqlx::query("SELECT 1").execute(&pool).await.is_err());
    proxy.restore();
    wait_until("the database answers", async || {
        sqlx::query("SELECT 1").execute(&pool).await.map_err(|e| e.to_string())
    })
    .await?;
    Ok(())
}
