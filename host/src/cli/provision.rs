//! `tribox provision`.

use tokio_util::sync::CancellationToken;

use super::{ConfigFile, Outcome, runtime, say};
use crate::config::Config;
use crate::model::Description;
use crate::node;
use crate::plugins::{Catalog, PluginDirectory};
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::stream::{self, Nats};
use crate::telemetry::Health;

pub(super) fn run(config: &ConfigFile, dry_run: bool) -> Outcome {
    let config = config.load()?;
    let catalog = catalog(&config)?;
    for refused in &catalog.refused {
        say(&format!("refused: {}", refused.error));
    }
    let handlers = descriptions(&catalog);
    runtime()?.block_on(async {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let Some(nats) = node::connect_nats(&config.nats, &health, &stop).await? else {
            return Ok(());
        };
        provision(&nats, &handlers, dry_run).await?;
        split(&config, &nats, &handlers, dry_run).await
    })
}

/// Makes what is missing, and says what.
async fn provision(nats: &Nats, handlers: &[Description], dry_run: bool) -> Outcome {
    let changes = stream::plan(nats, handlers).await?;
    if changes.is_empty() {
        say("every subject has a stream");
    }
    if !dry_run {
        stream::provision(nats, &changes).await?;
    }
    let made = if dry_run { "would make" } else { "made" };
    for change in changes {
        let subjects = change.subjects.join(", ");
        say(&format!("{made} stream {} with {subjects} ({})", change.stream, change.because));
    }
    Ok(())
}

/// Puts handlers into the partitions that the config asks for, and says which.
pub(super) async fn split(
    config: &Config,
    nats: &Nats,
    handlers: &[Description],
    dry_run: bool,
) -> Outcome {
    let made = if dry_run { "would make" } else { "made" };
    for handler in handlers.iter().filter(|handler| handler.keyed()) {
        let Some(of) = config.handler(&handler.name).partitions else { continue };
        let Some(split) = stream::plan_split(nats, handler, of).await? else { continue };
        if !dry_run {
            stream::make_split(nats, &split).await?;
        }
        let (stream, name) = (&split.stream, &split.handler);
        say(&format!("{made} stream {stream} (handler {name}, in {of} partitions)"));
    }
    Ok(())
}

/// What is in the plugin directory.
pub(super) fn catalog(config: &Config) -> Result<Catalog, Box<dyn std::error::Error>> {
    let directory = PluginDirectory::open(&config.plugins.directory)?;
    let sandbox = SandboxConfig { cache: config.plugins.cache(), ..SandboxConfig::default() };
    Ok(Catalog::load(&directory, &Sandbox::new(sandbox)?)?)
}

/// What its handlers say of themselves.
pub(super) fn descriptions(catalog: &Catalog) -> Vec<Description> {
    catalog.loaded.iter().map(|loaded| loaded.guest.description().as_ref().clone()).collect()
}
