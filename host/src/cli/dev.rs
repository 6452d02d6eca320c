//! `tribox dev`: everything a handler needs on one's own machine, without a config.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::serve::stop_on_signals;
use super::{Outcome, logging, provision, runtime, say};
use crate::config::Config;
use crate::node;
use crate::servers::{NatsOptions, PrivateNats, PrivatePostgres};
use crate::telemetry::Health;

/// How often the plugin directory is looked at for handlers whose streams are missing.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(directory: &Path, config: Option<&Path>, data: &Path) -> Outcome {
    let mut config = match config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    if !directory.is_dir() {
        let shown = directory.display();
        return Err(format!("{shown} is not a directory; create it and drop .wasm files in").into());
    }
    logging::start(&config.log)?;
    config.plugins.directory = directory.to_owned();
    config.node.name = Some("dev".to_owned());
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let stop = stop_on_signals()?;
        let mut postgres = PrivatePostgres::start(&data.join("postgres"), &[]).await?;
        let mut nats = PrivateNats::start(&data.join("nats"), NatsOptions::default()).await?;
        config.postgres.url = postgres.url();
        config.nats.url = nats.url();
        config.plugins.cache = Some(data.join("cache"));
        if let Some(note) = postgres.note() {
            say(&format!("postgres {note}"));
        }
        say(&format!("plugins   {}", directory.display()));
        say(&format!("postgres  psql {}", postgres.url()));
        say(&format!("nats      {}", nats.url()));
        say(&format!("metrics   http://{}/metrics", config.admin.listen));
        let ended = CancellationToken::new();
        let streams = make_streams(&config, &ended);
        let outcome = tokio::select! {
            outcome = node::run(config.clone(), stop) => outcome.map_err(Into::into),
            outcome = streams => outcome,
        };
        ended.cancel();
        // Both are stopped, whatever became of the other.
        let stopped = (nats.stop().await, postgres.stop().await);
        outcome.and(stopped.0.map_err(Into::into)).and(stopped.1.map_err(Into::into))
    });
    runtime.shutdown_background();
    outcome
}

/// Makes the streams that handlers lack, as they are dropped in. Ends only with an error.
async fn make_streams(config: &Config, stop: &CancellationToken) -> Outcome {
    let health = Health::default();
    let Some(nats) = node::connect_nats(&config.nats, &health, stop).await? else {
        return std::future::pending().await;
    };
    let mut seen = Vec::new();
    loop {
        let config = config.clone();
        let directory = crate::plugins::PluginDirectory::open(&config.plugins.directory)?;
        let entries = directory.scan()?;
        if entries != seen {
            let loading = tokio::task::spawn_blocking(move || {
                provision::handlers(&config).map_err(|why| why.to_string())
            });
            let handlers = loading.await??;
            provision::provision(&nats, &handlers, false).await?;
            seen = entries;
        }
        tokio::time::sleep(LOOK).await;
    }
}
