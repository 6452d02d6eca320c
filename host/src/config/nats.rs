//! How NATS is reached, and when a consumer of it stands still.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Comma-separated. `NATS_URL` in the environment goes before.
    pub url: String,
    /// A credentials file. `NATS_CREDS` in the environment goes before.
    pub credentials: Option<PathBuf>,
    /// A file of certificate authorities beyond the system's.
    pub ca: Option<PathBuf>,
    /// A consumer is made anew that has delivered nothing for so long though messages wait.
    #[serde(with = "humantime_serde")]
    pub stalled: Duration,
}

impl Default for Nats {
    fn default() -> Self {
        let url = "nats://localhost:4222".to_owned();
        Nats { url, credentials: None, ca: None, stalled: Duration::from_secs(60) }
    }
}
