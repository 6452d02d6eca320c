//! The writer of a test's tribox.toml.

use anyhow::{Context, Result};
use toml::{Table, Value};

/// A config by dotted keys.
#[derive(Debug, Clone, Default)]
pub struct Config(Table);

impl Config {
    /// Sets one key, such as `handlers.accounts.settings.threshold`. Keys on its way that were no
    /// tables become tables.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let (tables, last) = match key.rsplit_once('.') {
            Some((tables, last)) => (tables.split('.').collect(), last),
            None => (Vec::new(), key),
        };
        let mut table = &mut self.0;
        for name in tables {
            let entry = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(inner) = entry else { return self };
            table = inner;
        }
        table.insert(last.to_owned(), value.into());
        self
    }

    /// Takes one key away, if it is there.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        let mut table = &mut self.0;
        let mut names = key.split('.').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                table.remove(name);
                break;
            }
            let Some(Value::Table(inner)) = table.get_mut(name) else { break };
            table = inner;
        }
        self
    }

    /// The text of the file.
    ///
    /// # Errors
    /// A value has no form in TOML.
    pub fn text(&self) -> Result<String> {
        toml::to_string(&self.0).context("config")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_keys_become_tables() {
        let mut config = Config::default();
        config.set("handlers.accounts.settings.threshold", "50").set("limits.fuel", 7);
        config.set("nats.url", "nats://x").unset("nats.url").unset("no.such");
        let text = config.text().unwrap();
        assert!(text.contains("[handlers.accounts.settings]\nthreshold = \"50\""), "{text}");
        assert!(text.contains("[limits]\nfuel = 7"), "{text}");
        assert!(!text.contains("nats://x"), "{text}");
    }
}
