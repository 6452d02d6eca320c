//! What a commit rests on, one rule at a time, asked of the store itself: what must be refused is,
//! and whoever must wait does.

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::{Connection, Executor, PgConnection};
use tribox::lane::ports::{Commit, CommitError, ListGuard, ListRange, Row, Store as _};
use tribox::model::InboxKey;
use tribox::store::{self, Claim, OpenedWriter, Postgres, Statements};
use tribox_tests::{Stack, wait_until};

const LONG: Duration = Duration::from_secs(3_600);

async fn node(stack: &Stack, name: &str, lease: Duration) -> Result<Postgres> {
    let pool = store::connect(stack.database_url(), 4, Statements::Prepared).await?;
    let registered = store::register(&pool, name, "a test", lease).await?;
    Ok(Postgres::new(pool, 4, registered.node))
}

/// The log of the one lane of a handler.
async fn log(store: &Postgres, owned: bool) -> Result<OpenedWriter> {
    Ok(store.open_writer("h", 0, 1, owned).await?)
}

fn commit(log: &OpenedWriter, message: u8) -> Commit {
    let inbox = vec![(InboxKey([message; 16]), i64::from(message))];
    Commit {
        handler: "h".to_owned(),
        component: 1,
        writer: log.id,
        fence: log.fence,
        inbox,
        ..Commit::default()
    }
}

fn row(key: &str, version: i64, body: Option<&str>) -> Row {
    let (collection, key) = ("c".to_owned(), key.to_owned());
    Row { collection, key, version, body: body.map(Into::into) }
}

/// All of collection c, where there are so many documents in it.
fn list(count: i64) -> ListGuard {
    let (collection, from) = ("c".to_owned(), String::new());
    ListGuard { range: ListRange { collection, from, until: None, after: None }, last: None, count }
}

#[tokio::test]
async fn what_a_commit_rests_on_is_checked() -> Result<()> {
    let stack = Stack::new("rests").await?;
    let store = node(&stack, "a", LONG).await?;
    let log = log(&store, false).await?;
    let changed = vec!["c".to_owned()];
    let blind = vec![row("k", 0, Some("{}"))];
    store.commit(&Commit { blind, changed, ..commit(&log, 1) }).await?;
    let of = || commit(&log, 2);
    let refused: [(&str, &str, Commit); 7] = [
        ("a message that was handled", "duplicate", commit(&log, 1)),
        ("an update", "conflict", Commit { updates: vec![row("k", 7, Some("{}"))], ..of() }),
        ("a creation", "conflict", Commit { creates: vec![row("k", 0, Some("{}"))], ..of() }),
        ("a read", "conflict", Commit { reads: vec![row("k", 7, None)], ..of() }),
        ("a list", "conflict", Commit { lists: vec![list(2)], ..of() }),
        ("a parked message", "conflict", Commit { unparked: vec![7], ..of() }),
        ("a fence", "fenced", Commit { fence: log.fence - 1, ..of() }),
    ];
    for (what, expected, commit) in refused {
        let found = match store.commit(&commit).await {
            Ok(()) => "nothing",
            Err(CommitError::Duplicate) => "duplicate",
            Err(CommitError::Conflict(_)) => "conflict",
            Err(CommitError::Fenced(_)) => "fenced",
            Err(_) => "another error",
        };
        ensure!(found == expected, "{what}: {found}, and not {expected}");
        ensure!(stack.number("SELECT count(*) FROM tribox.inbox").await? == 1, "{what} was kept");
    }
    let updates = vec![row("k", 1, Some("{}"))];
    store.commit(&Commit { updates, ..of() }).await?;
    let (reads, lists) = (vec![row("k", 2, None)], vec![list(1)]);
    store.commit(&Commit { reads, lists, ..commit(&log, 3) }).await?;
    Ok(())
}

/// Holds that `work` does not end while another transaction is open, in which `held` was said.
async fn waits_for(
    stack: &Stack,
    held: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut other = PgConnection::connect(stack.database_url()).await?;
    other.execute("BEGIN").await?;
    other.execute(sqlx::AssertSqlSafe(held.to_owned())).await?;
    let mut work = std::pin::pin!(work);
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    tokio::select! {
        done = &mut work => anyhow::bail!("it did not wait: {done:?}"),
        waits = stack.until(waiting, 1) => waits?,
    }
    other.execute("COMMIT").await?;
    work.await
}

#[tokio::test]
async fn a_list_waits_for_who_adds_to_it() -> Result<()> {
    let stack = Stack::new("list-waits").await?;
    let store = node(&stack, "a", LONG).await?;
    let log = log(&store, false).await?;
    // Somebody lists, and what is added waits.
    let listed = "SELECT tribox.check_lists(ARRAY['c'], ARRAY[''], ARRAY[NULL]::text[],
                  ARRAY[NULL]::text[], ARRAY[NULL]::text[], ARRAY[0]::bigint[])";
    let creates = vec![row("k", 0, Some("{}"))];
    let adds = Commit { creates, changed: vec!["c".to_owned()], ..commit(&log, 1) };
    waits_for(&stack, listed, async { Ok(store.commit(&adds).await?) }).await?;
    // Somebody adds, and a list waits, and then counts anew.
    let lock = "SELECT pg_advisory_xact_lock_shared(1953655138, hashtext('c'))";
    let lists = Commit { lists: vec![list(1)], ..commit(&log, 2) };
    waits_for(&stack, lock, async { Ok(store.commit(&lists).await?) }).await
}

#[tokio::test]
async fn a_takeover_waits_for_a_commit() -> Result<()> {
    let stack = Stack::new("takeover-waits").await?;
    let store = node(&stack, "a", LONG).await?;
    let log = log(&store, false).await?;
    let none = "'{}', '{}', '{}'";
    let commits = format!(
        "SELECT tribox.commit('a', {}, 1, '{{}}', '{{}}', {none}, '{{}}', {none}, {none}, '{{}}', \
         {none}, {}, 1, {none}, '{{}}', '{{}}', NULL)",
        log.fence, log.id
    );
    let again = async { node(&stack, "a", LONG).await.map(drop) };
    waits_for(&stack, &commits, again).await?;
    let late = store.commit(&commit(&log, 1)).await;
    ensure!(matches!(late, Err(CommitError::Fenced(_))), "{late:?}");
    Ok(())
}

#[tokio::test]
async fn one_node_at_a_time_owns_a_unit() -> Result<()> {
    let stack = Stack::new("owned").await?;
    let first = node(&stack, "a", LONG).await?;
    let second = node(&stack, "b", LONG).await?;
    assert_eq!(first.claim("h").await?, Claim::Owned { crashes: 0 });
    log(&first, true).await?;
    assert_eq!(second.claim("h").await?, Claim::Held { by: "a".to_owned() });
    ensure!(log(&second, true).await.is_err(), "it has opened a log of what another node owns");
    first.end_node().await?;
    assert_eq!(second.claim("h").await?, Claim::Owned { crashes: 0 });
    log(&second, true).await?;
    Ok(())
}

#[tokio::test]
async fn whoever_is_replaced_is_fenced_out() -> Result<()> {
    let stack = Stack::new("replaced").await?;
    let refused = async |what: &str, store: &Postgres, log: &OpenedWriter| {
        let late = store.commit(&commit(log, 1)).await;
        ensure!(matches!(late, Err(CommitError::Fenced(_))), "{what}: {late:?}");
        Ok(())
    };
    // By a process that takes its name.
    let first = node(&stack, "a", LONG).await?;
    let of_first = log(&first, false).await?;
    let second = node(&stack, "a", LONG).await?;
    refused("its name was taken", &first, &of_first).await?;
    // By one that finds its lease over.
    let short = node(&stack, "b", Duration::from_millis(1)).await?;
    let of_short = log(&short, false).await?;
    let buried = wait_until("it is fenced out", async || match second.bury().await {
        Ok(buried) if buried.is_empty() => Err("nobody is".to_owned()),
        Ok(buried) => Ok(buried),
        Err(why) => Err(why.to_string()),
    });
    let buried: Vec<String> = buried.await?.into_iter().map(|node| node.name).collect();
    assert_eq!(buried, ["b"]);
    refused("its lease is over", &short, &of_short).await?;
    // Whose lease is not over is left alone.
    let other = node(&stack, "c", LONG).await?;
    let of_other = log(&other, false).await?;
    // It has been quiet for as long as it may be silent, if that were all.
    let quiet = "UPDATE tribox.nodes SET lease_ms = 1 WHERE name = 'c'";
    sqlx::query(quiet).execute(&stack.pool).await?;
    ensure!(second.bury().await?.is_empty(), "a node that lives was fenced out");
    other.commit(&commit(&of_other, 2)).await?;
    // By one that takes over what it has given up.
    other.claim("h").await?;
    let of_other = log(&other, true).await?;
    other.end_node().await?;
    second.claim("h").await?;
    refused("its handler was taken over", &other, &of_other).await
}
