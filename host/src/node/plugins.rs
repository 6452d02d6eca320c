//! Follows the plugin directory: what is dropped in runs, what is replaced is swapped in between two
//! turns, what is taken away stops. A bad file leaves the running build in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::build::{heal, prepare};
use super::handler::Running;
use crate::plugins::{Change, ChangeKind, PluginDirectory, Watch};
use crate::sandbox::{Guest, Sandbox};

/// How often the directory is looked at. A file counts once it stayed the same between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Keeps the running handlers as the directory says.
pub struct Follower {
    shared: Shared,
    directory: PluginDirectory,
    sandbox: Sandbox,
    running: BTreeMap<String, Running>,
}

impl Follower {
    pub fn new(shared: Shared, directory: PluginDirectory, sandbox: Sandbox) -> Self {
        Follower { shared, directory, sandbox, running: BTreeMap::new() }
    }

    /// Follows until stopped, and then stops the handlers.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut watch = self.start_all(&stop).await;
        self.shared.health.started();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
            if !self.shared.config.plugins.watch {
                continue;
            }
            match watch.poll(&self.directory) {
                Ok(changes) => {
                    self.shared.health.back("plugins");
                    for change in changes {
                        self.take_up(&change, &stop).await;
                    }
                }
                Err(why) => self.shared.health.away("plugins", &why.to_string()),
            }
        }
        let stopping = self.running.into_values().map(Running::stop);
        futures_util::future::join_all(stopping).await;
    }

    /// Starts what is there; returns the watch for what comes later.
    async fn start_all(&mut self, stop: &CancellationToken) -> Watch {
        let entries = match self.directory.scan() {
            Ok(entries) => entries,
            Err(why) => {
                self.shared.health.away("plugins", &why.to_string());
                return Watch::new();
            }
        };
        for entry in &entries {
            let change = Change { file: entry.file.clone(), kind: ChangeKind::Added };
            self.take_up(&change, stop).await;
        }
        if self.running.is_empty() {
            let path = self.directory.path().display().to_string();
            tracing::warn!(path, "no handler runs: drop a .wasm file into the plugin directory");
        }
        for name in self.shared.config.handlers.keys() {
            if !self.running.contains_key(name) {
                tracing::warn!(handler = name, "the config has settings for a handler not there");
            }
        }
        Watch::since(&entries)
    }

    async fn take_up(&mut self, change: &Change, stop: &CancellationToken) {
        let file = &change.file;
        if change.kind == ChangeKind::Removed {
            let name = self.running.iter().find(|(_, r)| r.file == *file).map(|(n, _)| n.clone());
            if let Some(running) = name.and_then(|name| self.running.remove(&name)) {
                let handler = &running.guest.description().name;
                tracing::info!(file, handler, "file is gone: stopping its handler");
                running.stop().await;
            }
            return;
        }
        match self.load(file).await {
            Ok(guest) => {
                if let Err(why) = self.run_guest(file, guest, stop).await {
                    tracing::error!(file, "handler was not started: {why}");
                }
            }
            Err(why) => {
                let kept = self.running.values().any(|running| running.file == *file);
                let kept = if kept { "; the build that runs stays" } else { "" };
                tracing::error!(file, "file was refused{kept}: {why}");
            }
        }
    }

    /// Reads, checks and compiles a file, off the async threads.
    async fn load(&self, file: &str) -> Result<Guest, String> {
        let wasm = self.directory.read(file).map_err(|why| why.to_string())?;
        let (sandbox, file) = (self.sandbox.clone(), file.to_owned());
        let loading = tokio::task::spawn_blocking(move || sandbox.load(&file, &wasm));
        let loaded = loading.await.map_err(|why| format!("loading it failed: {why}"))?;
        loaded.map_err(|why| why.to_string())
    }

    async fn run_guest(
        &mut self,
        file: &str,
        guest: Guest,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let description = guest.description().clone();
        let name = &description.name;
        let settings = self.shared.config.handler(name);
        if !settings.enabled {
            tracing::info!(file, handler = name, "handler is switched off in the config");
            return Ok(());
        }
        if let Some(other) = self.running.get(name).filter(|r| r.file != file) {
            return Err(format!(
                "{file}: its handler is named '{name}' like that of {}, which runs; take one of the \
                 two files away, or give one another name in its description",
                other.file
            ));
        }
        // A file may hold another handler than before.
        let before = self.running.iter().find(|(n, r)| r.file == file && *n != name);
        if let Some(old) = before.map(|(n, _)| n.clone()).and_then(|n| self.running.remove(&n)) {
            old.stop().await;
        }
        if let Some(running) = self.running.get_mut(name)
            && running.guest.description().subscriptions == description.subscriptions
        {
            if running.guest.digest() == guest.digest() {
                return Ok(());
            }
            let loaded = prepare(&self.shared, &guest, &settings).await;
            let loaded = loaded.map_err(|why| why.to_string())?;
            tracing::info!(file, handler = name, version = description.version, "new build runs");
            let component = loaded.component;
            running.swap(file, guest, loaded);
            if !running.works() {
                // The node that has the handler may run another build; it is healed when it is taken over.
                return Ok(());
            }
            let healed = heal(&self.shared, name, &settings, component).await;
            return healed.map_err(|why| format!("what failed before is not tried again: {why}"));
        }
        if let Some(old) = self.running.remove(name) {
            old.stop().await;
        }
        let version = &description.version;
        tracing::info!(file, handler = name, version, digest = guest.digest(), "starting handler");
        loop {
            match Running::start(&self.shared, file, guest.clone()).await {
                Ok(running) => {
                    self.running.insert(name.clone(), running);
                    return Ok(());
                }
                Err(why) => self.shared.health.away("postgres", &why.to_string()),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
