//! Postgres by way of a PgBouncer in transaction mode, with fewer connections than the hosts have to
//! it: two hosts, of which the one that works is killed, come to a clean ledger. Where it mixes up
//! prepared statements, a host does not start.

use anyhow::Result;
use tribox_tests::{Host, PgBouncer, Stack};

use crate::books;

const HANDLED: &str = "SELECT count(*) FROM tribox.inbox";

/// A stack whose hosts and commands reach Postgres by way of a PgBouncer.
async fn behind(name: &str, tracked: u32) -> Result<(Stack, PgBouncer)> {
    let mut stack = Stack::new(name).await?;
    stack.config.set("node.lease", "1s").set("lanes.count", 4);
    books::prepare(&stack).await?;
    let directory = stack.directory().join("pgbouncer");
    let bouncer = PgBouncer::start(&directory, stack.database_url(), tracked).await?;
    stack.config.set("postgres.url", bouncer.url());
    Ok((stack, bouncer))
}

async fn serve(stack: &mut Stack, name: &str) -> Result<Host> {
    stack.config.set("node.name", name);
    stack.serve().await
}

/// Two hosts and 4,000 messages; whoever works is killed in the middle.
async fn a_kill_costs_nothing(stack: &mut Stack) -> Result<()> {
    let mut a = serve(stack, "a").await?;
    books::publish(stack, 0..10).await?;
    books::audit(stack, 10).await?;
    // a has the handler, and b stands by.
    let b = serve(stack, "b").await?;
    books::publish(stack, 10..4_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    a.kill()?;
    books::audit(stack, 4_000).await?;
    assert_eq!(b.metric("tribox_takeovers_total").await? as u64, 1);
    // Commands go the same way, while the host runs.
    let status = stack.tool_json(&["status"])?;
    assert_eq!(status["handlers"][0]["owner"], "b", "{status:#}");
    assert!(!b.log().contains("prepared statement"), "{}", b.log());
    b.stop().await
}

#[tokio::test]
async fn hosts_work_behind_one_that_knows_no_prepared_statements() -> Result<()> {
    let (mut stack, _bouncer) = behind("pooler-old", 0).await?;
    stack.config.set("postgres.prepared_statements", false);
    // The tables are made by way of it, too.
    stack.tool(&["migrate"])?.ok()?;
    a_kill_costs_nothing(&mut stack).await
}

#[tokio::test]
async fn one_that_mixes_up_prepared_statements_is_refused() -> Result<()> {
    let (mut stack, _bouncer) = behind("pooler-mixed", 0).await?;
    let mut host = stack.spawn()?;
    let status = host.exit().await?;
    assert!(!status.success(), "{}", host.log());
    let advice = "set [postgres] prepared_statements to false";
    assert!(host.log().contains(advice), "{}", host.log());
    let told = stack.tool(&["status"])?;
    assert!(told.err.contains(advice), "{told:?}");
    assert_eq!(stack.number("SELECT count(*) FROM tribox.nodes").await?, 0);
    Ok(())
}

/// Where the PgBouncer here is new enough.
#[tokio::test]
async fn hosts_work_behind_one_that_keeps_track_of_prepared_statements() -> Result<()> {
    if PgBouncer::version()? < (1, 21) {
        println!("skipped: PgBouncer {:?} is older than 1.21", PgBouncer::version()?);
        return Ok(());
    }
    let (mut stack, _bouncer) = behind("pooler-new", 200).await?;
    a_kill_costs_nothing(&mut stack).await
}

/// A host that freezes in the middle of a transaction keeps nobody from what it has locked.
#[tokio::test]
async fn a_host_that_freezes_behind_one_is_replaced() -> Result<()> {
    let (mut stack, _bouncer) = behind("pooler-frozen", 0).await?;
    stack.config.set("postgres.prepared_statements", false);
    let a = serve(&mut stack, "a").await?;
    let b = serve(&mut stack, "b").await?;
    for round in 1..=3 {
        let count = round * 1_500;
        books::publish(&stack, count - 1_500..count).await?;
        stack.until_at_least(HANDLED, i64::try_from(count)? - 1_300).await?;
        let epochs = "SELECT sum(epoch)::bigint FROM tribox.nodes";
        let before = stack.number(epochs).await?;
        let owner = "SELECT o.node FROM tribox.owners o WHERE o.unit = 'accounts'";
        let owner: String = sqlx::query_scalar(owner).fetch_one(&stack.pool).await?;
        let works = if owner == "a" { &a } else { &b };
        works.freeze()?;
        stack.until_at_least(epochs, before + 1).await?;
        works.thaw()?;
        books::audit(&stack, count).await?;
    }
    a.stop().await?;
    b.stop().await
}
