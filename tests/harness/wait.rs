//! Waiting for something to become so, in place of sleeping and hoping.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Far more than anything takes on a machine that does other work as well: what is waited for is
/// bounded here and timed nowhere.
const PATIENCE: Duration = Duration::from_secs(120);

/// Repeats `predicate` until it is fulfilled, for at most two minutes. What it fails with says how
/// things stand; the last of these is in the error.
///
/// # Errors
/// Time is up.
pub async fn wait_until<T>(
    what: &str,
    predicate: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    wait_within(patience(), what, predicate).await
}

/// `TRIBOX_PATIENCE` in seconds, for runs in which something is meant to be stuck.
fn patience() -> Duration {
    let seconds = std::env::var("TRIBOX_PATIENCE").ok().and_then(|text| text.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

/// [`wait_until`] with a bound of one's own.
///
/// # Errors
/// Time is up.
pub async fn wait_within<T>(
    patience: Duration,
    what: &str,
    mut predicate: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match predicate().await {
            Ok(value) => return Ok(value),
            Err(state) if started.elapsed() >= patience => {
                bail!("waited {patience:?} in vain until {what}; last seen: {state}");
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}
