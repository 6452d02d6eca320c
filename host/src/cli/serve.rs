//! `tribox serve`.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{ConfigFile, Outcome, logging, runtime};
use crate::node;

pub(super) fn run(config: &ConfigFile) -> Outcome {
    let config = config.load()?;
    logging::start(&config.log)?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let stop = stop_on_signals()?;
        node::run(config, stop).await?;
        Ok(())
    });
    // A turn that waits for a server does not hold the process up any longer.
    runtime.shutdown_background();
    outcome
}

/// A token that SIGTERM and SIGINT cancel.
pub(super) fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process and owns nothing")]
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}
