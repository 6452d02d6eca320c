//! `tribox dev`: from a directory with a component to a handled message, without a config or a server
//! of one's own; and back to nothing that runs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tribox_tests::{Broker, Host, free_address, get, post, programs, tool, wait_until};

/// A started `tribox dev` and where its servers are.
struct Dev {
    host: Host,
    database_url: String,
    nats_url: String,
    /// Where test messages are posted to.
    desk: SocketAddr,
}

fn command(place: &Path) -> Result<Command> {
    let mut command = Command::new(programs::tribox()?);
    command.args(["dev", "plugins", "--data", "data", "--config", "dev.toml"]).current_dir(place);
    // It finds nats-server as a user's shell would.
    let nats = programs::nats_server();
    let beside = nats.parent().context("a directory")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path);
    let path = std::env::join_paths(std::iter::once(beside.to_owned()).chain(path))?;
    command.env("PATH", path).env_remove("DATABASE_URL").env_remove("NATS_URL");
    Ok(command)
}

fn place() -> Result<tempfile::TempDir> {
    let place = tempfile::tempdir()?;
    // Root's Postgres runs as another user: let it pass through.
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(place.path(), open)?;
    std::fs::create_dir(place.path().join("plugins"))?;
    Ok(place)
}

async fn start(place: &Path) -> Result<Dev> {
    start_with(place, &[]).await
}

async fn start_with(place: &Path, more: &[&str]) -> Result<Dev> {
    let admin = free_address()?;
    std::fs::write(place.join("dev.toml"), format!("[admin]\nlisten = \"{admin}\"\n"))?;
    let mut command = command(place)?;
    command.args(more);
    let mut host = Host::spawn_command(command, admin, &place.join("log"))?;
    host.ready().await?;
    let log = host.log();
    let told = |name: &str| {
        let line = log.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        line.map(str::to_owned).with_context(|| format!("{name} is not told"))
    };
    let (database_url, nats_url) = (told("export DATABASE_URL")?, told("export NATS_URL")?);
    let desk = told("export TRIBOX_DEV")?;
    let desk = desk.strip_prefix("http://").context("no http")?.parse()?;
    Ok(Dev { host, database_url, nats_url, desk })
}

/// Drops a component in as `handler.wasm`, whole.
fn drop_in(place: &Path, component: &[u8]) -> Result<()> {
    let unfinished = place.join("plugins/handler.part");
    std::fs::write(&unfinished, component)?;
    std::fs::rename(unfinished, place.join("plugins/handler.wasm"))?;
    Ok(())
}

/// The same component with a note in it: another build.
fn another_build(mut component: Vec<u8>) -> Vec<u8> {
    component.extend([0, 5, 4]);
    component.extend(b"note");
    component
}

async fn until(dev: &Dev, sql: &'static str, expected: i64) -> Result<()> {
    wait_until(&format!("{sql} is {expected}"), async || {
        let found = async {
            let mut connection = PgConnection::connect(&dev.database_url).await?;
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await
        };
        match found.await {
            Ok(found) if found == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_handler_runs_is_replaced_and_all_of_it_stops() -> Result<()> {
    let place = place()?;
    let place = place.path();
    let items = std::fs::read(programs::guest("items")?)?;
    drop_in(place, &items)?;
    let mut dev = start(place).await?;
    let log = dev.host.log();
    assert!(log.contains("loading the handlers; a new build is compiled"), "{log}");
    let broker = Broker::connect(&dev.nats_url).await?;
    broker.publish("items.create", json!({"id": "7", "name": "lamp"}).to_string()).await?;
    until(&dev, "SELECT count(*) FROM tribox_state.items WHERE key = '7'", 1).await?;
    assert_eq!(broker.read_when("ITEMS", 2).await?[1].subject, "items.created");

    // A new build of it, between two messages.
    drop_in(place, &another_build(items))?;
    until(&dev, "SELECT count(*) FROM tribox.components WHERE handler = 'items'", 2).await?;
    dev.host.logs("new build runs").await?;
    broker.publish("items.create", json!({"id": "8", "name": "desk"}).to_string()).await?;
    until(&dev, "SELECT count(DISTINCT component) FROM tribox.inbox", 2).await?;

    // Another handler in the same file, and its stream.
    drop_in(place, &std::fs::read(programs::guest("bare")?)?)?;
    let name = json!({"name": "chair"}).to_string();
    wait_until("the stream of the new handler is there", async || {
        broker.publish("bare.create", name.clone()).await.map_err(|e| format!("{e:#}"))
    })
    .await?;
    until(&dev, "SELECT count(*) FROM tribox.documents WHERE collection = 'bare'", 1).await?;

    // Nonsense in the file leaves what runs.
    drop_in(place, b"nonsense")?;
    wait_until("it is refused", async || match dev.host.log() {
        log if log.contains("the build that runs stays") => Ok(()),
        log => Err(log.lines().last().unwrap_or_default().to_owned()),
    })
    .await?;
    broker.publish("bare.create", name).await?;
    until(&dev, "SELECT count(*) FROM tribox.documents WHERE collection = 'bare'", 2).await?;

    dev.host.terminate()?;
    ensure!(dev.host.exit().await?.success(), "{}", dev.host.log());
    assert!(PgConnection::connect(&dev.database_url).await.is_err(), "Postgres is stopped");
    assert!(async_nats::connect(&dev.nats_url).await.is_err(), "NATS is stopped");

    // The data are there at the next start.
    drop_in(place, &std::fs::read(programs::guest("items")?)?)?;
    let dev = start(place).await?;
    until(&dev, "SELECT count(*) FROM tribox_state.items", 2).await?;
    dev.host.stop().await
}

async fn shows(dev: &Dev, text: &str) -> Result<()> {
    wait_until(&format!("it shows {text:?}"), async || match dev.host.log() {
        log if log.contains(text) => Ok(()),
        log => Err(log),
    })
    .await
}

/// Publishes by the command, which finds the running server by itself.
fn publish(place: &Path, subject: &str, payload: &str, more: &[&str]) -> Result<tool::Ran> {
    let publish = ["publish", subject, payload, "--data", "data"];
    tool::tribox(place, None, &[&publish[..], more].concat())
}

#[tokio::test]
async fn messages_are_shown_and_the_config_is_taken_up_when_it_is_saved() -> Result<()> {
    let place = place()?;
    let place = place.path();
    drop_in(place, &std::fs::read(programs::guest("accounts")?)?)?;
    let mut dev = start(place).await?;
    let told = publish(place, "accounts.7.debit", r#"{"amount": 20}"#, &["--id", "m-1"])?.ok()?;
    assert_eq!(told, "message 1 of stream ACCOUNTS\n");
    shows(&dev, "accounts  accounts.7.debit  key 7, id m-1\n    put accounts/7 {").await?;
    shows(&dev, "    send accounts.events.7.balance-changed {\"account\":\"7\",\"amount\":-20,")
        .await?;
    shows(&dev, ", as overdrawn-7]").await?;
    let again = publish(place, "accounts.7.debit", "{}", &["--id", "m-1"])?.ok()?;
    assert!(again.contains("has a message of id m-1 already"), "{again}");
    publish(place, "accounts.7.debit", "{}", &["-H", "Trace-Id: t"])?.ok()?;
    shows(&dev, "missing field `amount`").await?;
    let why = publish(place, "nobody.takes.this", "{}", &[])?.refused()?;
    assert!(why.contains("no stream takes this subject"), "{why}");

    // What makes no sense leaves what runs; then a threshold that 20 more fall below.
    let config = std::fs::read_to_string(place.join("dev.toml"))?;
    std::fs::write(place.join("dev.toml"), format!("{config}[handlers]\nnonsense = 1\n"))?;
    shows(&dev, "the config that runs stays").await?;
    let settings = format!("{config}[handlers.accounts.settings]\nthreshold = \"-30\"\n");
    std::fs::write(place.join("dev.toml"), settings)?;
    shows(&dev, "the config has changed").await?;
    publish(place, "accounts.7.debit", r#"{"amount": 20}"#, &[])?.ok()?;
    shows(&dev, "accounts.events.7.low-balance {\"account\":\"7\",\"balance\":-40,").await?;
    dev.host.terminate()?;
    ensure!(dev.host.exit().await?.success(), "{}", dev.host.log());

    // Nothing runs any more, so there is nothing to publish to.
    let why = publish(place, "accounts.7.debit", "{}", &["--config", "dev.toml"])?.refused()?;
    assert!(why.contains("NATS at nats://localhost:4222 cannot be used"), "{why}");
    let dev = start_with(place, &["--fresh"]).await?;
    until(&dev, "SELECT count(*) FROM tribox.documents", 0).await?;
    assert_eq!(Broker::connect(&dev.nats_url).await?.count("ACCOUNTS").await?, 0);
    dev.host.stop().await
}

/// Posts a test message; the status and the answer.
async fn posted(dev: &Dev, path: &str, lines: &[&str], body: &str) -> Result<(u16, Value)> {
    let answer = post(dev.desk, path, lines, body).await?;
    let json = serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
    Ok((answer.status, json))
}

#[tokio::test]
async fn messages_can_be_posted_by_http() -> Result<()> {
    let place = place()?;
    let place = place.path();
    drop_in(place, &std::fs::read(programs::guest("keys")?)?)?;
    let dev = start(place).await?;
    let usage = get(dev.desk, "/").await?;
    assert!(usage.status == 200 && usage.body.contains("POST /publish/SUBJECT"), "{usage:?}");

    // Header lines keep their capitals: the handler finds its key under `Order`.
    let path = "/publish/keys.header?id=m%2F1&header=Order:+7&header=Trace-Id:t";
    let stored = json!({"stream": "KEYS", "sequence": 1, "duplicate": false});
    assert_eq!(posted(&dev, path, &[], "\u{0} any bytes").await?, (200, stored));
    let broker = Broker::connect(&dev.nats_url).await?;
    let told = broker.read_when("KEYS", 2).await?;
    assert_eq!((told[0].id.as_deref(), &told[0].payload[..]), (Some("m/1"), &b"\0 any bytes"[..]));
    assert_eq!(told[0].headers.get("Trace-Id").map(|value| value.as_str()), Some("t"));
    assert_eq!(told[1].json(), json!({"id": "m/1", "key": "7"}));
    let (status, again) = posted(&dev, path, &[], "").await?;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)));

    let at =
        |name: &'static str| move |answer: (u16, Value)| (answer.0, answer.1[name].to_string());
    for (path, lines, expected, words) in [
        ("/publish/nobody.takes.this", &[][..], 404, "no stream takes this subject"),
        ("/publish/keys.*", &[], 400, "subject: "),
        ("/publish/keys.header?key=7", &[], 400, "what is key? There are id and header"),
        ("/publish/keys.header?header=Order", &[], 400, "has no colon"),
        ("/publish/keys.header", &["Origin: http://127.0.0.1:9465"], 403, "web pages may not"),
    ] {
        let (status, why) = posted(&dev, path, lines, "{}").await.map(at("error"))?;
        assert!(status == expected && why.contains(words), "{path}: {status} {why}");
    }
    assert_eq!(broker.count("KEYS").await?, 2, "what was refused is in no stream");
    dev.host.stop().await
}

#[tokio::test]
async fn a_second_one_in_the_same_directory_says_so() -> Result<()> {
    let place = place()?;
    drop_in(place.path(), &std::fs::read(programs::guest("items")?)?)?;
    let dev = start(place.path()).await?;
    let mut second = command(place.path())?;
    let output = second.stdin(Stdio::null()).output().context("failed to run tribox dev")?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let owner = format!("is in use by process {};", dev.host.pid());
    assert!(said.contains(&owner), "{said}");
    until(&dev, "SELECT count(*) FROM tribox.nodes", 1).await?;
    dev.host.stop().await
}

#[test]
fn a_directory_that_is_not_there_is_named() -> Result<()> {
    let place = tempfile::tempdir()?;
    std::fs::write(place.path().join("dev.toml"), "")?;
    let mut command = command(place.path())?;
    let output = command.stdin(Stdio::null()).output().context("failed to run tribox dev")?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("plugins is not a directory; create it"), "{said}");
    Ok(())
}
