//! Where the servers of a running `tribox dev` are: in a file beside their data, as lines that a shell
//! can read and that other commands look for. It is there as long as they run.

use std::path::Path;

use super::case::read as read_text;
use crate::config::{Config, Nats};

const FILE: &str = "env";

/// The addresses of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub database_url: String,
    pub nats_url: String,
    /// Where test messages are posted to.
    pub desk_url: String,
}

impl Places {
    /// As lines for a shell.
    pub(super) fn lines(&self) -> String {
        let Places { database_url, nats_url, desk_url } = self;
        format!(
            "export DATABASE_URL={database_url}\nexport NATS_URL={nats_url}\n\
             export TRIBOX_DEV={desk_url}\n"
        )
    }

    /// Puts them into a config.
    pub(super) fn set(&self, config: &mut Config) {
        config.postgres.url.clone_from(&self.database_url);
        config.nats = Nats { url: self.nats_url.clone(), ..Nats::default() };
    }

    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, data: &Path) -> Result<(), String> {
        let path = data.join(FILE);
        std::fs::write(&path, self.lines())
            .map_err(|why| format!("{} cannot be written: {why}", path.display()))
    }
}

/// The servers that run with these data; `None` where none do.
pub(super) fn read(data: &Path) -> Option<Places> {
    let text = read_text(&data.join(FILE)).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("export ")?.strip_prefix(name));
        Some(line?.strip_prefix('=')?.to_owned())
    };
    Some(Places {
        database_url: value("DATABASE_URL")?,
        nats_url: value("NATS_URL")?,
        desk_url: value("TRIBOX_DEV")?,
    })
}

/// Forgets them. What cannot be removed misleads nobody for long: nothing answers there.
pub(super) fn forget(data: &Path) {
    let _ = std::fs::remove_file(data.join(FILE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(read(place.path()), None);
        let places = Places {
            database_url: "postgres://a:b@127.0.0.1:1/c".into(),
            nats_url: "nats://127.0.0.1:2".into(),
            desk_url: "http://127.0.0.1:3".into(),
        };
        places.write(place.path()).unwrap();
        assert_eq!(read(place.path()), Some(places));
        forget(place.path());
        assert_eq!(read(place.path()), None);
    }
}
