//! Private servers keep their data, refuse a second owner, and clean up after one that was killed.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};
use tempfile::TempDir;
use tribox::servers::{NatsOptions, PrivateNats, PrivatePostgres, ServerError};
use tribox_tests::programs;

/// Set for the copy of this test program that is to be killed while it owns servers.
const OWNER: &str = "TRIBOX_TEST_OWNER_OF";

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    // Postgres may run as another user: let it pass through.
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory.path(), open).unwrap();
    directory
}

fn nats_options() -> NatsOptions {
    NatsOptions { program: Some(programs::nats_server()), ..NatsOptions::default() }
}

async fn one_value(url: &str, sql: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.fetch_one(sql).await.unwrap().get(0)
}

/// JetStream for a machine whose disk is busy with other tests.
fn patient(client: async_nats::Client) -> async_nats::jetstream::Context {
    let mut context = async_nats::jetstream::new(client);
    context.set_timeout(Duration::from_secs(60));
    context
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
        || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
}

#[tokio::test]
async fn postgres_keeps_its_data_over_stops_and_crashes() {
    let directory = directory();
    let place = directory.path().join("postgres");
    let settings = [("work_mem".to_owned(), "5MB".to_owned())];
    let mut postgres = PrivatePostgres::start(&place, &settings).await.unwrap();
    let url = postgres.url();
    assert_eq!(one_value(&url, "SHOW work_mem").await, "5MB");
    assert_eq!(one_value(&url, "SHOW listen_addresses").await, "127.0.0.1");
    assert_eq!(one_value(&url, "SELECT current_user::text").await, "tribox");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE TABLE kept AS SELECT 'kept'::text").await.unwrap();
    drop(connection);

    postgres.kill().unwrap();
    postgres.start_again().await.unwrap();
    assert_eq!(postgres.url(), url, "the same port after a crash");
    assert_eq!(one_value(&url, "TABLE kept").await, "kept");

    let pid = postgres.pid().unwrap();
    drop(postgres);
    assert!(gone(pid), "dropping it stops it");
    let postgres = PrivatePostgres::start(&place, &[]).await.unwrap();
    assert_eq!(one_value(&postgres.url(), "TABLE kept").await, "kept");
}

#[tokio::test]
async fn postgres_asks_for_its_password() {
    let directory = directory();
    let postgres = PrivatePostgres::start(directory.path(), &[]).await.unwrap();
    let url = postgres.url();
    let (before, after) = url.split_once('@').unwrap();
    let (user, _) = before.rsplit_once(':').unwrap();
    let error = PgConnection::connect(&format!("{user}:wrong@{after}")).await.unwrap_err();
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    let mode = directory.path().join("password").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn nats_keeps_its_streams_over_stops_and_crashes() {
    for program in [programs::nats_server(), programs::oldest_nats_server()] {
        let directory = directory();
        let options = NatsOptions { program: Some(program), ..NatsOptions::default() };
        let mut nats = PrivateNats::start(directory.path(), options.clone()).await.unwrap();
        let url = nats.url();
        let client = async_nats::connect(&url).await.unwrap();
        let jetstream = patient(client);
        let stream = async_nats::jetstream::stream::Config {
            name: "KEPT".to_owned(),
            subjects: vec!["kept".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(stream).await.unwrap();
        jetstream.publish("kept", "1".into()).await.unwrap().await.unwrap();

        nats.kill().unwrap();
        nats.start_again().await.unwrap();
        assert_eq!(nats.url(), url, "the same port after a crash");
        drop(nats);
        let nats = PrivateNats::start(directory.path(), options).await.unwrap();
        let client = async_nats::connect(nats.url()).await.unwrap();
        let jetstream = patient(client);
        let info = jetstream.get_stream("KEPT").await.unwrap().get_info().await.unwrap();
        assert_eq!(info.state.messages, 1);
    }
}

#[tokio::test]
async fn a_second_owner_is_told_who_the_first_is() {
    let directory = directory();
    let nats = PrivateNats::start(directory.path(), nats_options()).await.unwrap();
    let error = PrivateNats::start(directory.path(), nats_options()).await.unwrap_err();
    assert!(matches!(error, ServerError::InUse { .. }), "{error}");
    let own = format!("is in use by process {};", std::process::id());
    assert!(error.to_string().contains(&own), "{error}");
    drop(nats);
    PrivateNats::start(directory.path(), nats_options()).await.unwrap();
}

#[tokio::test]
async fn servers_of_a_killed_owner_are_stopped_by_the_next() {
    if let Some(place) = std::env::var_os(OWNER) {
        own_until_killed(Path::new(&place)).await;
    }
    let directory = directory();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::servers_of_a_killed_owner_are_stopped_by_the_next"])
        .arg("--nocapture")
        .env(OWNER, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().split_once("pids ").map(|l| l.1.to_owned()));
    let pids: Vec<u32> = line.unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(pids.iter().all(|pid| !gone(*pid)), "servers outlive an owner that is killed");

    let postgres = PrivatePostgres::start(&directory.path().join("pg"), &[]).await.unwrap();
    let nats = PrivateNats::start(&directory.path().join("nats"), nats_options()).await.unwrap();
    assert!(pids.iter().all(|pid| gone(*pid)), "the next owner stops them");
    assert_eq!(one_value(&postgres.url(), "SELECT 'up'").await, "up");
    async_nats::connect(nats.url()).await.unwrap();
}

async fn own_until_killed(place: &Path) {
    let postgres = PrivatePostgres::start(&place.join("pg"), &[]).await.unwrap();
    let nats = PrivateNats::start(&place.join("nats"), nats_options()).await.unwrap();
    println!("pids {} {}", postgres.pid().unwrap(), nats.pid().unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn postgres_runs_where_only_root_can_go() {
    let parent = directory();
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(parent.path(), closed).unwrap();
    let place = parent.path().join("pg");
    let postgres = PrivatePostgres::start(&place, &[]).await.unwrap();
    assert_eq!(one_value(&postgres.url(), "SELECT 'up'").await, "up");
    let elsewhere = std::fs::read_to_string(place.join("cluster-elsewhere"));
    let note = postgres.note().unwrap_or_default();
    assert_eq!(elsewhere.is_ok(), note.contains("runs as"), "{note}");
    if let Ok(elsewhere) = elsewhere {
        assert!(note.contains(&elsewhere), "{note}");
        drop(postgres);
        std::fs::remove_dir_all(elsewhere).unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_own_words() {
    let directory = directory();
    let settings = [("no_such_setting".to_owned(), "1".to_owned())];
    let error = PrivatePostgres::start(directory.path(), &settings).await.unwrap_err().to_string();
    assert!(error.contains("postgres failed to start"), "{error}");
    assert!(error.contains("unrecognized configuration parameter"), "{error}");
}
