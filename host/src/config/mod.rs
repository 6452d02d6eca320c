//! tribox.toml: every key, its default, and what is wrong with a file. docs/tribox.toml shows all of
//! them at their defaults; a test holds that.

mod handler;
mod limits;
mod nats;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use self::handler::{Backlog, Handler, OnTrap, Retry};
pub use self::limits::LimitsConfig;
pub use self::nats::Nats;

/// The whole config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub postgres: Postgres,
    pub nats: Nats,
    pub plugins: Plugins,
    pub lanes: Lanes,
    pub limits: LimitsConfig,
    pub relay: Relay,
    pub backlog: Backlog,
    pub dead: Dead,
    pub retention: Retention,
    pub shutdown: Shutdown,
    pub admin: Admin,
    pub log: Log,
    /// By handler name.
    pub handlers: BTreeMap<String, Handler>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Names this process among all on the same database; the host name where it is not set.
    pub name: Option<String>,
    /// After so long without a sign of life others take over.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Node { name: None, lease: Duration::from_secs(6) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// `DATABASE_URL` in the environment goes before.
    pub url: String,
    /// Connections at most.
    pub connections: u32,
    /// Whether statements are prepared once on each connection. False for a pooler that hands
    /// transactions to any connection and does not keep track of prepared statements.
    pub prepared_statements: bool,
    /// Whether `serve` applies pending migrations by itself.
    pub migrate: bool,
}

impl Default for Postgres {
    fn default() -> Self {
        let url = "postgres://localhost:5432/tribox".to_owned();
        Postgres { url, connections: 16, prepared_statements: true, migrate: true }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plugins {
    pub directory: PathBuf,
    /// Where compiled components are kept.
    pub cache: Option<PathBuf>,
    /// Whether files that come, change or go are taken up while running.
    pub watch: bool,
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins { directory: "plugins".into(), cache: None, watch: true }
    }
}

impl Plugins {
    /// Where compiled components are kept: what the config says, or `tribox` in the user's cache
    /// directory, if there is one.
    pub fn cache(&self) -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let default = || {
            let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
            Some(cache.join("tribox"))
        };
        self.cache.clone().or_else(default)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lanes {
    /// Of each handler; the number of processors, at most 4, where it is not set.
    pub count: Option<usize>,
    /// Messages in a turn at most.
    pub turn: usize,
    /// Bytes of payload in a turn, roughly at most.
    pub turn_bytes: usize,
    /// Bytes of documents that a lane keeps.
    pub cache_bytes: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes { count: None, turn: 1_024, turn_bytes: 8 << 20, cache_bytes: 16 << 20 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Messages on their way to NATS at most.
    pub window: usize,
}

impl Default for Relay {
    fn default() -> Self {
        Relay { window: 4_096 }
    }
}

/// How the death of a message is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dead {
    /// The subject; `{handler}` stands for the handler's name. Empty: it is not told.
    pub subject: String,
}

impl Default for Dead {
    fn default() -> Self {
        Dead { subject: "tribox.dead.{handler}".to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long a handled message is remembered: a duplicate that comes later is handled again.
    #[serde(with = "humantime_serde")]
    pub inbox: Duration,
    /// How long a published message is kept, for sending it again after the broker lost it.
    #[serde(with = "humantime_serde")]
    pub outbox: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let hour = Duration::from_secs(3_600);
        Retention { inbox: hour * 24 * 7, outbox: hour }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long finishing turns and publishing what was committed may take.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { grace: Duration::from_secs(20) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// As in `RUST_LOG`, which goes before.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Auto, filter: "info,async_nats=warn".to_owned() }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people in a terminal, JSON elsewhere.
    #[default]
    Auto,
    Human,
    Json,
}

/// What is wrong with a config, with the file, the place and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Each partition is a consumer, and a reader and a log on the node that has it.
const MOST_PARTITIONS: u32 = 256;

const ALL_KEYS: &str = "docs/tribox.toml shows every key at its default";

/// The line of a mistake and the key on it. Not the value: it may be a secret.
fn place(text: &str, why: &toml::de::Error) -> String {
    let start = why.span().map_or(0, |span| span.start).min(text.len());
    let before = &text.as_bytes()[..start];
    let number = before.iter().filter(|byte| **byte == b'\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    format!("line {} ({key})", number + 1)
}

impl Config {
    /// Reads a file and what the environment sets over it. Paths in it are relative to the file.
    ///
    /// # Errors
    /// The file cannot be read, or says something that makes no sense; the text names file, line and
    /// key.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let shown = path.display();
        let text = read(path).map_err(|why| {
            ConfigError(format!(
                "config file {shown} cannot be read: {why}; name another one by --config FILE; \
                 {ALL_KEYS}"
            ))
        })?;
        let mut config = Config::parse(&text, &shown.to_string())?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.plugins.directory = base.join(&config.plugins.directory);
        let paths = [&mut config.plugins.cache, &mut config.nats.credentials, &mut config.nats.ca];
        for path in paths.into_iter().flatten() {
            *path = base.join(&*path);
        }
        config.apply_environment(|name| std::env::var(name).ok());
        Ok(config)
    }

    /// Parses the text of a config; `name` is what errors call it by.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|why| {
            let place = place(text, &why);
            let why = why.message().replace('\n', ", ");
            ConfigError(format!("config file {name}, {place}: {why}; {ALL_KEYS}"))
        })?;
        config.check().map_err(|why| ConfigError(format!("config file {name}: {why}")))?;
        Ok(config)
    }

    /// What the environment sets over the file.
    pub fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(url) = set("DATABASE_URL") {
            self.postgres.url = url;
        }
        if let Some(url) = set("NATS_URL") {
            self.nats.url = url;
        }
        if let Some(path) = set("NATS_CREDS") {
            self.nats.credentials = Some(path.into());
        }
    }

    fn check(&self) -> Result<(), String> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value < least {
                return Err(format!("{key} is {value}; it must be at least {least}"));
            }
            Ok(())
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        at_least("postgres.connections", self.postgres.connections.into(), 2)?;
        at_least("lanes.count", self.lanes.count.map_or(1, size), 1)?;
        at_least("lanes.turn", size(self.lanes.turn), 1)?;
        at_least("lanes.turn_bytes", size(self.lanes.turn_bytes), 1)?;
        at_least("relay.window", size(self.relay.window), 1)?;
        at_least("limits.fuel", self.limits.fuel, 1)?;
        at_least("limits.memory", size(self.limits.memory), 1 << 16)?;
        for (key, value) in backlog_keys(self.backlog) {
            at_least(&format!("backlog.{key}"), value, 1)?;
        }
        let subject = &self.dead.subject;
        let publishable = |text: &str| {
            text.split('.').all(|token| {
                !token.is_empty() && !token.contains(['*', '>', ' ', '\t', '\r', '\n'])
            })
        };
        if !subject.is_empty() && !publishable(&subject.replace("{handler}", "x")) {
            return Err(format!("dead.subject '{subject}' is no subject to publish to"));
        }
        if self.node.lease < Duration::from_millis(500) {
            return Err("node.lease must be at least 500ms: a slow answer is no death".into());
        }
        if self.nats.stalled < Duration::from_secs(1) {
            return Err("nats.stalled must be at least 1s: a pause is no standstill".into());
        }
        let minute = Duration::from_secs(60);
        if self.retention.inbox < minute {
            return Err(
                "retention.inbox must be at least 1m: it is what duplicates are met by".into()
            );
        }
        for (name, handler) in &self.handlers {
            if !(1..=MOST_PARTITIONS).contains(&handler.partitions.unwrap_or(1)) {
                return Err(format!("handlers.{name}.partitions must be 1 to {MOST_PARTITIONS}"));
            }
            at_least(&format!("handlers.{name}.lanes"), handler.lanes.map_or(1, size), 1)?;
            at_least(&format!("handlers.{name}.turn"), handler.turn.map_or(1, size), 1)?;
            for (key, value) in backlog_keys(handler.backlog.unwrap_or_default()) {
                at_least(&format!("handlers.{name}.backlog.{key}"), value, 1)?;
            }
            let attempts = u64::from(handler.retry.attempts);
            at_least(&format!("handlers.{name}.retry.attempts"), attempts, 1)?;
        }
        Ok(())
    }

    /// What is set for a handler, or the defaults.
    pub fn handler(&self, name: &str) -> Handler {
        self.handlers.get(name).cloned().unwrap_or_default()
    }
}

fn backlog_keys(backlog: Backlog) -> [(&'static str, u64); 3] {
    let Backlog { outbox, parked, scheduled } = backlog;
    [("outbox", outbox), ("parked", parked), ("scheduled", scheduled)]
}

#[expect(clippy::disallowed_methods, reason = "the operator names the config file")]
fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests;
