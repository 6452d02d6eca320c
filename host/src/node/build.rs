//! A build of a handler: registered, made ready to be called, and given another try at what failed by
//! the fault of an earlier one.

use std::sync::{Arc, Mutex};

use super::Shared;
use crate::config;
use crate::lane::ports::{Handler, Loaded, StoreAway};
use crate::model::{Call, Description, Documents, Limits, Message};
use crate::sandbox::Guest;

/// Messages that a new build tries again in one statement.
const HEALED: i64 = 5_000;

/// A guest as lanes call it.
struct Sandboxed(Guest);

impl Handler for Sandboxed {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn call(&self, message: &Message, documents: Arc<Mutex<dyn Documents>>) -> Call {
        self.0.call(message, documents)
    }
}

/// A build of a handler, registered and ready to be called.
pub async fn prepare(
    shared: &Shared,
    guest: &Guest,
    settings: &config::Handler,
) -> Result<Loaded, StoreAway> {
    let limits = settings.limits.clone().unwrap_or_else(|| shared.config.limits.clone());
    let guest = guest.configured(settings.settings.clone(), Limits::from(limits));
    let description = guest.description();
    let component = shared
        .store
        .register_component(&description.name, &description.version, guest.digest())
        .await?;
    for collection in &guest.description().collections {
        // For people: a handler runs without its views, too.
        if let Err(why) = shared.store.ensure_view(collection).await {
            tracing::warn!("view tribox_state.{collection} cannot be made: {why}");
        }
    }
    Ok(Loaded { handler: Arc::new(Sandboxed(guest)), component })
}

/// Has a build try again, in order, what failed by a fault of another one.
pub async fn heal(
    shared: &Shared,
    handler: &str,
    settings: &config::Handler,
    component: i32,
) -> Result<(), StoreAway> {
    let mut healed = 0;
    if !settings.heal {
        return Ok(());
    }
    loop {
        let some = shared.store.heal(handler, component, HEALED).await?;
        healed += some;
        if some < HEALED {
            break;
        }
    }
    if healed > 0 {
        shared.metrics.handler(handler).healed.inc_by(u64::try_from(healed).unwrap_or_default());
        tracing::info!(
            handler,
            count = healed,
            "trying again what failed by a fault of another build"
        );
    }
    Ok(())
}
