//! The connection to NATS: options, and whether the server is one that tribox can use.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerError, jetstream};
use tokio::sync::mpsc;

use crate::fault::Fault;

/// How to reach NATS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsOptions {
    /// Comma-separated `nats://` URLs.
    pub url: String,
    /// A credentials file.
    pub credentials: Option<PathBuf>,
    /// Certificates of authorities beyond the system's.
    pub ca: Option<PathBuf>,
}

/// The oldest supported nats-server.
const OLDEST: (i64, i64, i64) = (2, 10, 0);

/// A connection that comes back by itself.
#[derive(Debug, Clone)]
pub struct Nats {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
}

/// Why NATS cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NatsError {
    pub(super) message: String,
    /// Waiting does not mend it.
    pub fatal: bool,
}

impl NatsError {
    fn new(message: String, fatal: bool) -> Self {
        NatsError { message, fatal }
    }

    /// A request that failed for now.
    pub(super) fn passing(what: &str, why: &dyn std::fmt::Display) -> Self {
        NatsError::new(format!("{what}: {why}"), false)
    }
}

impl From<Fault> for NatsError {
    fn from(fault: Fault) -> Self {
        NatsError::new(fault.to_string(), false)
    }
}

impl NatsOptions {
    /// The URLs for people: without user, password and token.
    fn shown(&self) -> String {
        let without_user = |url: &str| {
            let (scheme, rest) = url.trim().split_once("://").unwrap_or(("nats", url.trim()));
            format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or(rest))
        };
        self.url.split(',').map(without_user).collect::<Vec<_>>().join(",")
    }

    /// The URLs as the client takes them.
    fn servers(&self) -> Result<Vec<async_nats::ServerAddr>, NatsError> {
        let parsed = self.url.split(',').map(|url| url.trim().parse());
        parsed.collect::<Result<Vec<_>, _>>().map_err(|why| {
            let url = self.shown();
            NatsError::new(
                format!(
                    "the NATS URL '{url}' cannot be read: {why}; it looks like \
                     nats://host:4222 (tribox.toml [nats] url, or NATS_URL)"
                ),
                true,
            )
        })
    }

    /// The options that every connection of this host shares.
    #[expect(clippy::disallowed_methods, reason = "the operator names the credentials file")]
    async fn options(&self, name: &str) -> Result<ConnectOptions, NatsError> {
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(Duration::from_secs(5))
            .request_timeout(Some(Duration::from_secs(5)));
        // The client itself passes over what a URL says of the user.
        for server in self.servers()? {
            if let Some(user) = server.username().map(decoded) {
                options = match server.password().map(decoded) {
                    Some(password) => options.user_and_password(user, password),
                    None => options.token(user),
                };
                break;
            }
        }
        if let Some(path) = &self.credentials {
            let text = tokio::fs::read_to_string(path).await.map_err(|why| {
                let path = path.display();
                NatsError::new(format!("the credentials file {path} cannot be read: {why}"), true)
            })?;
            options = options.credentials(&text).map_err(|why| {
                let path = path.display();
                NatsError::new(format!("{path} is not a NATS credentials file: {why}"), true)
            })?;
        }
        if let Some(path) = &self.ca {
            options = options.add_root_certificates(path.clone());
        }
        Ok(options)
    }

    /// A connection that ends when it breaks, without trying again: for the relay, whose messages
    /// must not be sent by a later connection behind its back. The caller drops the runtime that it
    /// lives in as soon as it breaks; the long delay merely keeps it still until then.
    ///
    /// What the server complains of goes to `complaints`: a publish that it does not allow is
    /// answered in no other way.
    pub(super) async fn connect_once(
        &self,
        complaints: mpsc::UnboundedSender<String>,
    ) -> Result<Client, NatsError> {
        let mut failed = NatsError::passing("cannot connect", &"no server is named");
        // One server at a time: between two of a list the client would make the long delay.
        for server in self.servers()? {
            match self.connect_once_to(server, complaints.clone()).await {
                Ok(client) => return Ok(client),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn connect_once_to(
        &self,
        server: async_nats::ServerAddr,
        complaints: mpsc::UnboundedSender<String>,
    ) -> Result<Client, NatsError> {
        let once = std::sync::atomic::AtomicBool::new(false);
        let options = self.options("tribox-relay").await?.reconnect_delay_callback(move |_| {
            let again = once.swap(true, std::sync::atomic::Ordering::Relaxed);
            Duration::from_secs(if again { 3_600 } else { 0 })
        });
        let options = options.event_callback(move |event| {
            if let async_nats::Event::ServerError(ServerError::Other(text)) = event {
                let _ = complaints.send(text);
            }
            std::future::ready(())
        });
        let connected = options.connect(server).await;
        connected.map_err(|why| NatsError::passing("cannot connect", &why))
    }
}

impl Nats {
    /// Connects and checks that the server is recent enough and has JetStream.
    ///
    /// # Errors
    /// `fatal` tells what waiting does not mend: a wrong URL, refused credentials, an old server.
    pub async fn connect(options: &NatsOptions) -> Result<Nats, NatsError> {
        let url = options.shown();
        let connected = options
            .options("tribox")
            .await?
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(50 * u64::try_from(attempts.min(20)).unwrap_or(20))
            })
            .connect(options.servers()?)
            .await;
        let client = connected.map_err(|why| {
            let refused = matches!(
                why.kind(),
                async_nats::ConnectErrorKind::AuthorizationViolation
                    | async_nats::ConnectErrorKind::Authentication
            );
            let advice = if refused {
                "check the credentials (tribox.toml [nats] credentials, or the URL)"
            } else {
                "check that nats-server runs there (tribox.toml [nats] url, or NATS_URL)"
            };
            NatsError::new(format!("NATS at {url} cannot be used: {why}; {advice}"), refused)
        })?;
        let version = client.server_info().version;
        let (major, minor, patch) = OLDEST;
        if !client.is_server_compatible(major, minor, patch) {
            let text = format!(
                "nats-server {version} at {url} is too old: tribox needs {major}.{minor} or later; \
                 upgrade the server"
            );
            return Err(NatsError::new(text, true));
        }
        let jetstream = jetstream::new(client.clone());
        jetstream.query_account().await.map_err(|why| {
            NatsError::new(
                format!(
                    "JetStream cannot be used at {url}: {why}; start nats-server with JetStream \
                     (-js, or a jetstream block in its config) and enable it for this account"
                ),
                false,
            )
        })?;
        Ok(Nats { client, jetstream })
    }

    /// How often this connection was made: it rises with each reconnect.
    pub(super) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether the connection stands now.
    pub fn connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Sends what is buffered, acknowledgements above all.
    pub async fn flush(&self) {
        // A failure here means redeliveries, which are met by the inbox.
        if let Ok(Err(why)) =
            tokio::time::timeout(Duration::from_secs(2), self.client.flush()).await
        {
            tracing::debug!("acknowledgements were not flushed: {why}");
        }
    }
}

/// The text that a part of a URL stands for: `%40` is `@`.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        let url = "nats://user:p@ss@one:4222, two:4222,tls://token@three".to_owned();
        let options = NatsOptions { url, ..NatsOptions::default() };
        assert_eq!(options.shown(), "nats://one:4222,nats://two:4222,tls://three");
    }

    #[test]
    fn escapes_in_urls_are_undone() {
        assert_eq!(decoded("p%40ss%2C%e2%82%ac"), "p@ss,€");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
