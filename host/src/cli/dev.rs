//! `tribox dev`: everything a handler needs on one's own machine, without a config.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::places::{self, Places};
use super::serve::stop_on_signals;
use super::{ConfigFile, Outcome, hints, logging, provision, runtime, say, watch};
use crate::config::{Config, LogFormat};
use crate::desk;
use crate::node;
use crate::plugins::{PluginDirectory, Watch};
use crate::servers::{NatsOptions, PrivateNats, PrivatePostgres};
use crate::stream::Nats;
use crate::telemetry::Health;

/// How often the plugin directory is looked at for handlers whose streams are missing.
const LOOK: Duration = Duration::from_millis(300);

/// Where test messages are posted to, where nothing else is there.
const DESK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9465));

/// What `dev` is told on the command line.
pub(super) struct Dev<'a> {
    /// The plugin directory, in place of the config's.
    pub directory: Option<&'a Path>,
    pub file: &'a ConfigFile,
    /// Where the servers keep their data.
    pub data: &'a Path,
    pub fresh: bool,
}

pub(super) fn run(dev: &Dev) -> Outcome {
    let mut config = dev.config()?;
    if config.admin == Config::default().admin {
        config.admin.listen = free_address(config.admin.listen)?;
    }
    if config.log.format == LogFormat::Json {
        logging::start(&config.log)?;
    } else {
        logging::start_with_view(&config.log)?;
    }
    let (runtime, data) = (runtime()?, dev.data);
    let outcome = runtime.block_on(async {
        let stop = stop_on_signals()?;
        if dev.fresh {
            begin_anew(data).await?;
        }
        say("starting a private Postgres and NATS");
        let mut postgres = PrivatePostgres::start(&data.join("postgres"), &[]).await?;
        let mut nats = PrivateNats::start(&data.join("nats"), NatsOptions::default()).await?;
        let desk = open_desk()?;
        let desk_url = format!("http://{}", desk.local_addr()?);
        let places = Places { database_url: postgres.url(), nats_url: nats.url(), desk_url };
        places.set(&mut config);
        if let Some(note) = postgres.note() {
            say(&note);
        }
        places.write(data)?;
        say(&hints::places(&config, &places, data));
        let outcome = dev.work(config, &places, desk, stop).await;
        places::forget(data);
        // Both are stopped, whatever became of the other.
        let stopped = (nats.stop().await, postgres.stop().await);
        outcome.and(stopped.0.map_err(Into::into)).and(stopped.1.map_err(Into::into))
    });
    runtime.shutdown_background();
    outcome
}

impl Dev<'_> {
    /// The config, and over it what trying something out on one's own machine asks for.
    fn config(&self) -> Result<Config, Box<dyn std::error::Error>> {
        let mut config = self.file.load()?;
        if let Some(directory) = self.directory {
            config.plugins.directory = directory.to_owned();
        }
        let directory = &config.plugins.directory;
        if !directory.is_dir() {
            return Err(format!(
                "{} is not a directory; create it and drop .wasm files in, or build the handler \
                 that comes to lie there",
                directory.display()
            )
            .into());
        }
        if config.plugins.cache().is_none() {
            config.plugins.cache = Some(self.data.join("cache"));
        }
        config.node.name = Some("dev".to_owned());
        Ok(config)
    }

    /// Makes the streams, says what to do with the handlers, and runs them until `stop`; begins again
    /// with another config whenever its file is saved.
    async fn work(
        &self,
        mut config: Config,
        places: &Places,
        desk: TcpListener,
        stop: CancellationToken,
    ) -> Outcome {
        let health = Health::default();
        let Some(nats) = node::connect_nats(&config.nats, &health, &stop).await? else {
            return Ok(());
        };
        let mut first = true;
        // Ends when this does.
        let mut desks = JoinSet::new();
        desks.spawn(desk::serve(desk, nats.clone()));
        loop {
            let directory = PluginDirectory::open(&config.plugins.directory)?;
            let watch = Watch::since(&directory.scan()?);
            tokio::select! {
                made = make_streams(&config, &nats, first) => made?,
                // What is being compiled ends with the process.
                () = stop.cancelled() => return Ok(()),
            }
            first = false;
            let this = stop.child_token();
            let mut node = std::pin::pin!(node::run(config.clone(), this.clone()));
            let next = tokio::select! {
                outcome = &mut node => return outcome.map_err(Into::into),
                outcome = follow(&config, &nats, &directory, watch) => return outcome,
                next = self.saved(&config, places) => next,
                Some(ended) = desks.join_next() => return ended?.map_err(Into::into),
            };
            this.cancel();
            node.await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            say("the config has changed: handlers run with it from here on");
            config = next;
        }
    }

    /// Waits until the config is another one. One that makes no sense is complained of, and what
    /// runs stays.
    async fn saved(&self, now: &Config, places: &Places) -> Config {
        let files = || self.file.path().into_iter().collect::<Vec<_>>();
        let mut known = watch::look(&files());
        let mut before = known.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let seen = watch::look(&files());
            if seen == known || seen != before {
                before = seen;
                continue;
            }
            known = seen;
            match self.config() {
                Ok(mut config) => {
                    if config.admin == Config::default().admin {
                        config.admin = now.admin.clone();
                    }
                    places.set(&mut config);
                    if config != *now {
                        return config;
                    }
                }
                Err(why) => tracing::warn!("{why}; the config that runs stays"),
            }
        }
    }
}

/// Removes what earlier starts have left, but for compiled components. The servers are started and
/// stopped before: that finds out whether they are in use, and ends what a crash left running.
async fn begin_anew(data: &Path) -> Outcome {
    let (postgres, nats) = (data.join("postgres"), data.join("nats"));
    if postgres.exists() {
        PrivatePostgres::start(&postgres, &[]).await?.stop().await?;
    }
    if nats.exists() {
        PrivateNats::start(&nats, NatsOptions::default()).await?.stop().await?;
    }
    for path in [postgres, nats].iter().filter(|path| path.exists()) {
        std::fs::remove_dir_all(path)
            .map_err(|why| format!("{} cannot be removed: {why}", path.display()))?;
    }
    Ok(())
}

/// Where test messages are posted to.
fn open_desk() -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(free_address(DESK)?)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The usual address, or one with a free port where another host has that one.
fn free_address(usual: SocketAddr) -> std::io::Result<SocketAddr> {
    match std::net::TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(_) => std::net::TcpListener::bind((usual.ip(), 0))?.local_addr(),
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
    if first {
        say("loading the handlers; a new build is compiled, which takes a while for one in Python");
    }
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
    if let Err(why) = provision::split(config, nats, &handlers, false).await {
        tracing::warn!("{why}");
    }
    if first {
        say(&hints::first_steps(&handlers));
    }
    Ok(())
}
