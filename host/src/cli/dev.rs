//! `tribox dev`: everything a handler needs on one's own machine, without a config.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::serve::stop_on_signals;
use super::{Outcome, hints, logging, provision, runtime, say};
use crate::config::{self, Config, LogFormat};
use crate::node;
use crate::plugins::{PluginDirectory, Watch};
use crate::servers::{NatsOptions, PrivateNats, PrivatePostgres};
use crate::stream::Nats;
use crate::telemetry::Health;

/// How often the plugin directory is looked at for handlers whose streams are missing.
const LOOK: Duration = Duration::from_millis(300);

pub(super) fn run(directory: &Path, config: Option<&Path>, data: &Path) -> Outcome {
    if !directory.is_dir() {
        let shown = directory.display();
        return Err(format!("{shown} is not a directory; create it and drop .wasm files in").into());
    }
    let mut config = match config {
        Some(path) => Config::load(path)?,
        None => {
            let mut config = Config::default();
            config.admin.listen = free_address(config.admin.listen)?;
            // Somebody tries something out: show what becomes of every message.
            config.log.filter = format!("{},tribox::lane=debug", config.log.filter);
            config
        }
    };
    if config.log.format == LogFormat::Auto {
        config.log.format = LogFormat::Human;
    }
    logging::start(&config.log)?;
    config.plugins.directory = directory.to_owned();
    config.plugins.cache = Some(data.join("cache"));
    config.node.name = Some("dev".to_owned());
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let stop = stop_on_signals()?;
        say("starting a private Postgres and NATS");
        let mut postgres = PrivatePostgres::start(&data.join("postgres"), &[]).await?;
        let mut nats = PrivateNats::start(&data.join("nats"), NatsOptions::default()).await?;
        config.postgres.url = postgres.url();
        config.nats = config::Nats { url: nats.url(), ..config::Nats::default() };
        if let Some(note) = postgres.note() {
            say(&note);
        }
        say(&hints::places(&config, data));
        let outcome = work(&config, stop).await;
        // Both are stopped, whatever became of the other.
        let stopped = (nats.stop().await, postgres.stop().await);
        outcome.and(stopped.0.map_err(Into::into)).and(stopped.1.map_err(Into::into))
    });
    runtime.shutdown_background();
    outcome
}

/// The usual admin address, or one with a free port where another host has that one.
fn free_address(usual: SocketAddr) -> std::io::Result<SocketAddr> {
    match TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(_) => TcpListener::bind((usual.ip(), 0))?.local_addr(),
    }
}

/// Makes the streams, says what to do with the handlers, and runs them until `stop`.
async fn work(config: &Config, stop: CancellationToken) -> Outcome {
    let health = Health::default();
    let Some(nats) = node::connect_nats(&config.nats, &health, &stop).await? else {
        return Ok(());
    };
    let directory = PluginDirectory::open(&config.plugins.directory)?;
    let entries = directory.scan()?;
    let watch = Watch::since(&entries);
    make_streams(config, &nats, true).await?;
    tokio::select! {
        outcome = node::run(config.clone(), stop) => outcome.map_err(Into::into),
        outcome = follow(config, &nats, &directory, watch) => outcome,
    }
}

/// Makes the streams of handlers that are dropped in later. Ends only with an error.
async fn follow(
    config: &Config,
    nats: &Nats,
    directory: &PluginDirectory,
    mut watch: Watch,
) -> Outcome {
    loop {
        tokio::time::sleep(LOOK).await;
        // A directory that cannot be read now is what the host itself complains of.
        if watch.poll(directory).is_ok_and(|changes| !changes.is_empty()) {
            make_streams(config, nats, false).await?;
        }
    }
}

/// Makes what the handlers lack. What is wrong with a file, the host says that loads it, too.
async fn make_streams(config: &Config, nats: &Nats, first: bool) -> Outcome {
    let loading = config.clone();
    let loading = tokio::task::spawn_blocking(move || {
        provision::catalog(&loading).map_err(|why| why.to_string())
    });
    let catalog = loading.await??;
    let handlers = provision::descriptions(&catalog);
    let changes = crate::stream::plan(nats, &handlers).await?;
    if let Err(why) = crate::stream::provision(nats, &changes).await {
        tracing::warn!("{why}");
    }
    for change in changes {
        say(&format!("made stream {} with {}", change.stream, change.subjects.join(", ")));
    }
    if first {
        say(&hints::first_steps(&handlers));
    }
    Ok(())
}
