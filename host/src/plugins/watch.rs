//! What has changed in the plugin directory since the last look. A file is reported once it has
//! stood still between two looks, so that one that is being written is never taken for complete.

use std::collections::BTreeMap;

use super::directory::{DirectoryError, Entry, Fingerprint, PluginDirectory};

/// A file that appeared, changed or went away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub file: String,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    Removed,
}

/// What the directory looked like, to tell what is new. It has no clock: who polls it decides how
/// long a file has to stand still.
#[derive(Default)]
pub struct Watch {
    /// What was reported last, by file.
    known: BTreeMap<String, Sight>,
    /// What was seen at the last look.
    seen: BTreeMap<String, Sight>,
}

type Sight = Result<Fingerprint, String>;

impl Watch {
    /// A watch that reports everything it finds as added.
    pub fn new() -> Watch {
        Watch::default()
    }

    /// A watch that takes the entries for known: what [`PluginDirectory::scan`] gave before they
    /// were loaded.
    pub fn since(entries: &[Entry]) -> Watch {
        let sights = entries.iter().map(|e| (e.file.clone(), e.fingerprint.clone()));
        let known: BTreeMap<_, _> = sights.collect();
        Watch { seen: known.clone(), known }
    }

    /// Looks at the directory again.
    ///
    /// # Errors
    /// The directory cannot be listed; nothing is reported as removed then.
    pub fn poll(&mut self, directory: &PluginDirectory) -> Result<Vec<Change>, DirectoryError> {
        Ok(self.look(directory.scan()?))
    }

    fn look(&mut self, entries: Vec<Entry>) -> Vec<Change> {
        let now: BTreeMap<_, _> = entries.into_iter().map(|e| (e.file, e.fingerprint)).collect();
        let mut changes = Vec::new();
        for (file, sight) in &now {
            let kind = match self.known.get(file) {
                None => ChangeKind::Added,
                Some(known) if known != sight => ChangeKind::Changed,
                Some(_) => continue,
            };
            if self.seen.get(file) == Some(sight) {
                changes.push(Change { file: file.clone(), kind });
            }
        }
        // Gone at two looks: replacing a file by rename never shows, by remove and write it may.
        for file in self.known.keys() {
            if !now.contains_key(file) && !self.seen.contains_key(file) {
                changes.push(Change { file: file.clone(), kind: ChangeKind::Removed });
            }
        }
        for Change { file, kind } in &changes {
            match kind {
                ChangeKind::Removed => self.known.remove(file),
                _ => self.known.insert(file.clone(), now[file].clone()),
            };
        }
        self.seen = now;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::ChangeKind::{Added, Changed, Removed};
    use super::*;
    use std::fs;

    struct Place(tempfile::TempDir, PluginDirectory, Watch);

    impl Place {
        fn new() -> Place {
            let place = tempfile::tempdir().unwrap();
            let directory = PluginDirectory::open(place.path()).unwrap();
            Place(place, directory, Watch::new())
        }

        fn write(&self, file: &str, content: &str) {
            fs::write(self.0.path().join(file), content).unwrap();
        }

        fn poll(&mut self) -> Vec<(String, ChangeKind)> {
            let changes = self.2.poll(&self.1).unwrap();
            changes.into_iter().map(|change| (change.file, change.kind)).collect()
        }
    }

    #[test]
    fn a_file_is_reported_when_it_stands_still() {
        let mut place = Place::new();
        place.write("a.wasm", "1");
        assert_eq!(place.poll(), []);
        place.write("a.wasm", "12");
        assert_eq!(place.poll(), [], "it is still being written");
        assert_eq!(place.poll(), [("a.wasm".to_owned(), Added)]);
        assert_eq!(place.poll(), []);
        place.write("a.wasm", "123");
        assert_eq!(place.poll(), []);
        assert_eq!(place.poll(), [("a.wasm".to_owned(), Changed)]);
    }

    #[test]
    fn a_file_that_is_replaced_is_changed_and_not_removed() {
        let mut place = Place::new();
        place.write("a.wasm", "1");
        place.poll();
        assert_eq!(place.poll(), [("a.wasm".to_owned(), Added)]);
        fs::remove_file(place.0.path().join("a.wasm")).unwrap();
        assert_eq!(place.poll(), []);
        place.write("a.wasm", "123");
        assert_eq!(place.poll(), []);
        assert_eq!(place.poll(), [("a.wasm".to_owned(), Changed)]);
        fs::remove_file(place.0.path().join("a.wasm")).unwrap();
        assert_eq!(place.poll(), []);
        assert_eq!(place.poll(), [("a.wasm".to_owned(), Removed)]);
        assert_eq!(place.poll(), []);
    }

    #[test]
    fn what_was_loaded_at_the_start_is_known() {
        let place = Place::new();
        place.write("a.wasm", "1");
        let mut watch = Watch::since(&place.1.scan().unwrap());
        assert_eq!(watch.poll(&place.1).unwrap(), []);
    }
}
