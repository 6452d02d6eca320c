//! Servers that are away, refuse, or are not what they should be: what waiting mends is waited for,
//! visibly; the rest ends the host with one line that says what to do.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tribox::servers::NatsOptions;
use tribox_tests::{
    FaultProxy, Host, Stack, StackOptions, chaos, fakes, programs, tables, wait_until,
};

/// Lines of a host's log that are not JSON: what it says last to whoever started it.
fn last_words(host: &Host) -> Vec<String> {
    let log = host.log();
    log.lines().filter(|line| !line.starts_with('{')).map(str::to_owned).collect()
}

/// How often the log has a line with these words.
fn said(host: &Host, words: &str) -> usize {
    host.log().lines().filter(|line| line.contains(words)).count()
}

/// Waits until `/readyz` says this of something that is away.
async fn waits_for(host: &Host, words: &str) -> Result<()> {
    wait_until(&format!("/readyz says '{words}'"), async || match host.get("/readyz").await {
        Ok(answer) if answer.status == 503 && answer.body.contains(words) => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
        Err(e) => Err(format!("{e:#}")),
    })
    .await?;
    assert_eq!(host.get("/healthz").await?.body, "ok\n");
    Ok(())
}

/// Waits until the log has said so as often as this.
async fn says(host: &Host, words: &str, times: usize) -> Result<()> {
    wait_until(&format!("the log says '{words}' {times} times"), async || match said(host, words) {
        found if found == times => Ok(()),
        found => Err(format!("{found} times")),
    })
    .await
}

/// Starts a host that is to end by itself; returns how, and its one line.
async fn refused(stack: &mut Stack) -> Result<(ExitStatus, String)> {
    let mut host = stack.spawn()?;
    let status = host.exit().await?;
    let words = last_words(&host);
    assert_eq!(words.len(), 1, "one line: {words:?}");
    Ok((status, words.into_iter().next().context("no line")?))
}

/// The loopback port in a URL.
pub fn port(url: &str) -> u16 {
    let address = url.rsplit('@').next().unwrap_or(url);
    let port = address.rsplit(':').next().and_then(|end| end.split('/').next());
    port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {url}"))
}

#[tokio::test]
async fn a_postgres_that_is_away_is_waited_for() -> Result<()> {
    let mut stack = Stack::new("no-postgres").await?;
    chaos::prepare(&stack).await?;
    let proxy = FaultProxy::start(port(stack.database_url())).await?;
    proxy.refuse();
    stack.config.set("postgres.url", proxy.instead_of(stack.database_url()));
    let mut host = stack.spawn()?;
    waits_for(&host, "postgres: Postgres cannot be used").await?;
    chaos::order(&stack.broker, "m", "a", &json!({"do": "ok"})).await?;
    proxy.restore();
    host.ready().await?;
    chaos::told_when(&stack.broker, 1).await?;
    assert_eq!(said(&host, "postgres cannot be used"), 1);
    assert_eq!(said(&host, "postgres can be used again"), 1);
    host.stop().await
}

#[tokio::test]
async fn a_nats_that_is_away_is_waited_for() -> Result<()> {
    let mut stack = Stack::new("no-nats").await?;
    chaos::prepare(&stack).await?;
    let proxy = FaultProxy::start(stack.nats.port()).await?;
    proxy.refuse();
    stack.config.set("nats.url", proxy.instead_of(&stack.nats_url()));
    let mut host = stack.spawn()?;
    waits_for(&host, "nats: NATS at nats://127.0.0.1:").await?;
    chaos::order(&stack.broker, "m", "a", &json!({"do": "ok"})).await?;
    proxy.restore();
    host.ready().await?;
    chaos::told_when(&stack.broker, 1).await?;
    assert_eq!(said(&host, "nats cannot be used"), 1);
    assert_eq!(said(&host, "nats can be used again"), 1);
    host.stop().await
}

#[tokio::test]
async fn a_missing_stream_is_waited_for() -> Result<()> {
    let mut stack = Stack::new("no-stream").await?;
    stack.drop_in(&["chaos"])?;
    let mut host = stack.spawn()?;
    waits_for(&host, "handler chaos: no stream has subject [\"chaos.*.do\"]").await?;
    stack.broker.create_stream(chaos::ORDERS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(chaos::EVENTS, &["chaos.events.*.*"]).await?;
    chaos::order(&stack.broker, "m", "a", &json!({"do": "ok"})).await?;
    host.ready().await?;
    chaos::told_when(&stack.broker, 1).await?;
    host.stop().await
}

#[tokio::test]
async fn a_postgres_that_refuses_for_good_ends_the_host() -> Result<()> {
    let mut stack = Stack::new("wrong-postgres").await?;
    let url = stack.database_url().to_owned();
    let (user, server) = url.split_once('@').context("no user")?;
    let (user, _) = user.rsplit_once(':').context("no password")?;
    let (server_alone, _) = server.rsplit_once('/').context("no database")?;
    let old = fakes::postgres(140_012).await?;
    for (url, words) in [
        (
            format!("{user}:wrong@{server}"),
            ["password authentication failed", "check user and password in the Postgres URL"],
        ),
        (
            format!("{}/nowhere", url.rsplit_once('/').context("no database")?.0),
            ["database \"nowhere\" does not exist", "create the database"],
        ),
        (
            format!("postgres://tribox@{old}/tribox"),
            ["Postgres 14 is too old: tribox needs 15 or later", "upgrade the server"],
        ),
        (format!("mysql://{server_alone}/x"), ["the Postgres URL cannot be read", "it looks like"]),
    ] {
        stack.config.set("postgres.url", url.as_str());
        let (status, line) = refused(&mut stack).await?;
        assert!(!status.success(), "{url}: {line}");
        assert!(words.iter().all(|words| line.contains(words)), "{url}: {line}");
        assert!(!line.contains("wrong@") && !line.contains(":wrong"), "no password in {line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_nats_that_refuses_for_good_ends_the_host() -> Result<()> {
    let users = "{ users: [ { user: tribox, password: right } ] }".to_owned();
    let directory = tempfile::tempdir()?;
    let settings = vec![("authorization".to_owned(), users)];
    let options =
        NatsOptions { program: Some(programs::nats_server()), settings, ..NatsOptions::default() };
    let closed = tribox::servers::PrivateNats::start(directory.path(), options).await?;
    let mut stack = Stack::new("wrong-nats").await?;
    let old = fakes::nats("2.9.25").await?;
    for (url, words) in [
        (
            format!("nats://tribox:wrong@127.0.0.1:{}", closed.port()),
            ["authorization violation", "check the credentials"],
        ),
        (
            format!("nats://{old}"),
            ["nats-server 2.9.25 at nats://", "tribox needs 2.10 or later; upgrade the server"],
        ),
        ("nats://[broken".to_owned(), ["the NATS URL 'nats://[broken' cannot be read", "it looks"]),
    ] {
        stack.config.set("nats.url", url.as_str());
        let (status, line) = refused(&mut stack).await?;
        assert!(!status.success(), "{url}: {line}");
        assert!(words.iter().all(|words| line.contains(words)), "{url}: {line}");
        assert!(!line.contains("wrong"), "no password in {line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_nats_without_jetstream_is_waited_for_and_named() -> Result<()> {
    let nats = NatsOptions { jetstream: false, ..NatsOptions::default() };
    let mut stack = Stack::with("core-nats", StackOptions { nats, ..Default::default() }).await?;
    let host = stack.spawn()?;
    waits_for(&host, "nats: JetStream cannot be used at nats://").await?;
    waits_for(&host, "start nats-server with JetStream (-js").await?;
    host.stop().await
}

/// Tells chaos to count, round after round over these keys, starting with message `from`.
async fn count(stack: &Stack, from: usize, rounds: usize) -> Result<()> {
    for n in from..from + rounds * KEYS {
        let key = format!("k{}", n % KEYS);
        chaos::order(&stack.broker, &format!("m{n}"), &key, &json!({"do": "count"})).await?;
    }
    Ok(())
}

const KEYS: usize = 7;
const ROUNDS: usize = 20;

/// Nothing was lost and nothing counted twice, in order, and no message was parked.
async fn the_count_is_right(stack: &Stack, rounds: usize) -> Result<()> {
    let told = chaos::told_when(&stack.broker, rounds * KEYS).await?;
    assert_eq!(told.len(), rounds * KEYS);
    for key in (0..KEYS).map(|n| format!("k{n}")) {
        let counts: Vec<&Value> = told
            .iter()
            .filter(|event| event.key == key)
            .map(|event| &event.body["count"])
            .collect();
        assert_eq!(
            counts,
            (1..=rounds).map(|n| json!(n)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
        let document = tables::document(&stack.pool, "chaos", &key).await?;
        assert_eq!(document, Some(json!({ "count": rounds })), "{key}");
    }
    assert_eq!(tables::parked(&stack.pool).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_postgres_that_goes_and_comes_back_costs_nothing() -> Result<()> {
    let mut stack = Stack::new("postgres-away").await?;
    chaos::prepare(&stack).await?;
    let proxy = FaultProxy::start(port(stack.database_url())).await?;
    stack.config.set("postgres.url", proxy.instead_of(stack.database_url()));
    let host = stack.serve().await?;
    let outages = 3;
    for n in 0..outages {
        count(&stack, n * ROUNDS * KEYS, ROUNDS / 2).await?;
        proxy.refuse();
        count(&stack, n * ROUNDS * KEYS + ROUNDS / 2 * KEYS, ROUNDS / 2).await?;
        waits_for(&host, "postgres: ").await?;
        says(&host, "postgres cannot be used", n + 1).await?;
        proxy.restore();
        the_count_is_right(&stack, (n + 1) * ROUNDS).await?;
        ready_again(&host).await?;
    }
    assert_eq!(said(&host, "postgres cannot be used"), outages, "a line per outage");
    assert_eq!(said(&host, "postgres can be used again"), outages);
    host.stop().await
}

/// As a standby that was promoted too late, or a disk that is nearly full.
#[tokio::test]
async fn a_postgres_that_is_read_only_for_a_while_costs_nothing() -> Result<()> {
    let options = StackOptions { own_postgres: true, ..Default::default() };
    let mut stack = Stack::with("read-only", options).await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    count(&stack, 0, ROUNDS / 2).await?;
    the_count_is_right(&stack, ROUNDS / 2).await?;
    let read_only = async |on: &str| -> Result<()> {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        let mut connection = stack.pool.acquire().await?;
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut *connection).await?;
        Ok(())
    };
    read_only("on").await?;
    wait_until("the setting holds", async || {
        let shown = sqlx::query_scalar("SHOW default_transaction_read_only");
        let shown: String = shown.fetch_one(&stack.pool).await.map_err(|e| e.to_string())?;
        if shown == "on" { Ok(()) } else { Err(shown) }
    })
    .await?;
    count(&stack, ROUNDS / 2 * KEYS, ROUNDS / 2).await?;
    waits_for(&host, "read-only").await?;
    read_only("off").await?;
    the_count_is_right(&stack, ROUNDS).await?;
    ready_again(&host).await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 0, "no message's fault");
    host.stop().await
}

/// Everybody else has taken the connections that Postgres has.
#[tokio::test]
async fn a_postgres_without_a_connection_to_spare_costs_nothing() -> Result<()> {
    let options = StackOptions { own_postgres: true, ..Default::default() };
    let mut stack = Stack::with("connections", options).await?;
    chaos::prepare(&stack).await?;
    let role = "CREATE ROLE app LOGIN PASSWORD 'app';
                GRANT USAGE ON SCHEMA tribox TO app;
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tribox TO app;
                GRANT USAGE, CREATE ON SCHEMA tribox_state TO app";
    sqlx::raw_sql(role).execute(&stack.pool).await?;
    let (_, address) = stack.database_url().split_once('@').context("no user in the URL")?;
    stack.config.set("postgres.url", format!("postgres://app:app@{address}"));
    let host = stack.serve().await?;
    count(&stack, 0, ROUNDS / 2).await?;
    the_count_is_right(&stack, ROUNDS / 2).await?;
    let none = "ALTER ROLE app CONNECTION LIMIT 0;
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    sqlx::raw_sql(none).execute(&stack.pool).await?;
    count(&stack, ROUNDS / 2 * KEYS, ROUNDS / 2).await?;
    waits_for(&host, "postgres: ").await?;
    sqlx::raw_sql("ALTER ROLE app CONNECTION LIMIT -1").execute(&stack.pool).await?;
    the_count_is_right(&stack, ROUNDS).await?;
    ready_again(&host).await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 0, "no message's fault");
    host.stop().await
}

#[tokio::test]
async fn a_nats_that_goes_and_comes_back_costs_nothing() -> Result<()> {
    let mut stack = Stack::new("nats-away").await?;
    chaos::prepare(&stack).await?;
    let proxy = FaultProxy::start(stack.nats.port()).await?;
    stack.config.set("nats.url", proxy.instead_of(&stack.nats_url()));
    let host = stack.serve().await?;
    let outages = 3;
    for n in 0..outages {
        count(&stack, n * ROUNDS * KEYS, ROUNDS / 2).await?;
        proxy.refuse();
        count(&stack, n * ROUNDS * KEYS + ROUNDS / 2 * KEYS, ROUNDS / 2).await?;
        waits_for(&host, "publishing: ").await?;
        says(&host, "publishing cannot be used", n + 1).await?;
        proxy.restore();
        the_count_is_right(&stack, (n + 1) * ROUNDS).await?;
        ready_again(&host).await?;
    }
    assert_eq!(said(&host, "publishing cannot be used"), outages, "a line per outage");
    assert_eq!(said(&host, "publishing can be used again"), outages);
    host.stop().await
}

async fn ready_again(host: &Host) -> Result<()> {
    wait_until("the host is ready again", async || match host.get("/readyz").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.body),
        Err(e) => Err(format!("{e:#}")),
    })
    .await
}

#[tokio::test]
async fn both_servers_killed_in_the_middle_of_traffic_cost_nothing() -> Result<()> {
    let options = StackOptions { own_postgres: true, ..Default::default() };
    let mut stack = Stack::with("both-killed", options).await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    count(&stack, 0, ROUNDS).await?;
    stack.postgres.as_mut().context("own Postgres")?.kill()?;
    stack.nats.kill()?;
    waits_for(&host, "publishing: ").await?;
    stack.nats.start_again().await?;
    stack.postgres.as_mut().context("own Postgres")?.start_again().await?;
    let sent = tokio::time::timeout(Duration::from_secs(30), count(&stack, ROUNDS * KEYS, ROUNDS));
    sent.await??;
    the_count_is_right(&stack, 2 * ROUNDS).await?;
    ready_again(&host).await?;
    host.stop().await
}

#[tokio::test]
async fn a_subject_that_the_account_may_not_publish_to_holds_back_itself_alone() -> Result<()> {
    let denied = "{ users: [ { user: tribox, password: \"p@ss\", \
                   permissions: { publish: { deny: \"chaos.events.*.delay\" } } }, \
                   { user: all, password: p } ] }";
    let settings = vec![
        ("authorization".to_owned(), denied.to_owned()),
        // The test itself may do everything.
        ("no_auth_user".to_owned(), "all".to_owned()),
    ];
    let nats = NatsOptions { settings, ..NatsOptions::default() };
    let mut stack = Stack::with("denied", StackOptions { nats, ..Default::default() }).await?;
    chaos::prepare(&stack).await?;
    let url = format!("nats://tribox:p%40ss@127.0.0.1:{}", stack.nats.port());
    stack.config.set("nats.url", url);
    let host = stack.serve().await?;
    for n in 0..3 {
        let (denied, fine) = (format!("denied-{n}"), format!("fine-{n}"));
        chaos::order(&stack.broker, &denied, "a", &json!({"do": "delay", "ms": 0})).await?;
        chaos::order(&stack.broker, &fine, "a", &json!({"do": "ok"})).await?;
    }
    let told = chaos::told_when(&stack.broker, 3).await?;
    assert!(told.iter().all(|event| event.verb == "ok"), "{told:?}");
    let rows = wait_until("the denied ones are set aside", async || {
        let sql = "SELECT subject, error FROM tribox.undelivered";
        let rows = sqlx::query_as::<_, (String, String)>(sql).fetch_all(&stack.pool).await;
        match rows.map_err(|e| e.to_string())? {
            rows if rows.len() == 3 => Ok(rows),
            rows => Err(format!("{rows:?}")),
        }
    });
    for (subject, reason) in rows.await? {
        assert_eq!(subject, "chaos.events.a.delay");
        assert!(reason.contains("Permissions Violation for Publish"), "{reason}");
        assert!(reason.contains("grant it to the user"), "{reason}");
    }
    // Nobody had to connect anew for it.
    assert_eq!(said(&host, "publishing cannot be used"), 0);
    host.stop().await
}
