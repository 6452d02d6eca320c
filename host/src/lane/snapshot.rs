//! The documents of a turn as its messages see them: what the store had, with what earlier messages of
//! the turn have written over it. It remembers what was read, so that the commit can check it.

use std::sync::Arc;

use super::map::DocumentMap;
use super::ports::{ListGuard, ListRange, Reader, Row};
use crate::model::{Document, Documents, LIST_BYTES, Mutation, Unreadable};

/// The overlay of one turn.
pub struct Snapshot {
    documents: DocumentMap<Entry>,
    lists: Vec<ListGuard>,
    reader: Arc<dyn Reader>,
    /// Two reads of one document differed: the turn cannot be committed and is run again.
    torn: bool,
}

/// One document in a turn.
#[derive(Debug, Clone)]
struct Entry {
    base: Base,
    body: Option<Arc<str>>,
    read: bool,
    written: bool,
}

/// What is known of the row that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// Its version, 0 for no row, and whether it had a body.
    Version { version: i64, live: bool },
    /// Nothing: it is written without having been read.
    Unknown,
}

/// A document as it is after a commit.
pub struct Kept<'a> {
    pub collection: &'a str,
    pub key: &'a str,
    /// `None`: nobody knows.
    pub version: Option<i64>,
    pub body: &'a Option<Arc<str>>,
    /// The commit rested on its version.
    pub checked: bool,
}

/// What a turn needs the commit to write and to check.
#[derive(Debug, Default)]
pub struct Changes {
    pub updates: Vec<Row>,
    pub creates: Vec<Row>,
    pub blind: Vec<Row>,
    pub reads: Vec<Row>,
    pub lists: Vec<ListGuard>,
    pub changed: Vec<String>,
}

impl Snapshot {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Snapshot { documents: DocumentMap::default(), lists: Vec::new(), reader, torn: false }
    }

    /// Puts in what was read ahead.
    pub fn preload(&mut self, row: &Row) {
        self.documents.insert(&row.collection, &row.key, Entry::of(row));
    }

    pub fn has(&self, collection: &str, key: &str) -> bool {
        self.documents.get(collection, key).is_some()
    }

    /// Whether the turn saw two states of one document and has to be run again.
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// Lays the mutations of a handled message over the documents. Their bodies are in canonical
    /// form, as every verdict has them.
    pub fn apply(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            let body = match mutation {
                Mutation::Put(document) => Some(Arc::<str>::from(document.body.as_str())),
                Mutation::Delete { .. } => None,
            };
            let (collection, key) = mutation.target();
            match self.documents.get_mut(collection, key) {
                Some(entry) => {
                    entry.body = body;
                    entry.written = true;
                }
                None => {
                    let entry = Entry { base: Base::Unknown, body, read: false, written: true };
                    self.documents.insert(collection, key, entry);
                }
            }
        }
    }

    /// What is to be written and checked, in one order for all turns, so that they lock alike.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes { lists: self.lists.clone(), ..Changes::default() };
        for (collection, key, entry) in self.documents.iter() {
            let row = |version, body: &Option<Arc<str>>| Row {
                collection: collection.to_owned(),
                key: key.to_owned(),
                version,
                body: body.clone(),
            };
            let mut comes_or_goes = false;
            match entry.base {
                Base::Unknown => {
                    comes_or_goes = true;
                    changes.blind.push(row(0, &entry.body));
                }
                Base::Version { version: 0, .. } if entry.written || entry.read => {
                    comes_or_goes = entry.body.is_some();
                    changes.creates.push(row(0, &entry.body));
                }
                Base::Version { version, live } if entry.written => {
                    comes_or_goes = live != entry.body.is_some();
                    changes.updates.push(row(version, &entry.body));
                }
                Base::Version { version, .. } if entry.read => {
                    changes.reads.push(row(version, &None));
                }
                Base::Version { .. } => {}
            }
            if comes_or_goes && !changes.changed.iter().any(|c| c == collection) {
                changes.changed.push(collection.to_owned());
            }
        }
        for rows in
            [&mut changes.updates, &mut changes.creates, &mut changes.blind, &mut changes.reads]
        {
            rows.sort_unstable_by(|a, b| (&a.collection, &a.key).cmp(&(&b.collection, &b.key)));
        }
        changes.changed.sort_unstable();
        changes
    }

    /// The documents as they are after the commit of [`Self::changes`], for the cache.
    pub fn after_commit(&self) -> impl Iterator<Item = Kept<'_>> {
        self.documents.iter().map(|(collection, key, entry)| {
            let checked = entry.written || entry.read;
            let version = match entry.base {
                Base::Unknown => None,
                Base::Version { version: 0, .. } if checked => Some(1),
                Base::Version { version, .. } if entry.written => Some(version + 1),
                Base::Version { version, .. } => Some(version),
            };
            Kept { collection, key, version, body: &entry.body, checked }
        })
    }

    /// Takes in a row of a list; what the turn has of the document already stays.
    fn meet(&mut self, row: &Row) {
        match self.documents.get_mut(&row.collection, &row.key) {
            None => {
                let entry = Entry { read: true, ..Entry::of(row) };
                self.documents.insert(&row.collection, &row.key, entry);
            }
            Some(entry) => {
                entry.read = true;
                match entry.base {
                    Base::Version { version, .. } => self.torn |= version != row.version,
                    Base::Unknown => {
                        entry.base = Base::Version { version: row.version, live: true };
                    }
                }
            }
        }
    }
}

impl Entry {
    fn of(row: &Row) -> Entry {
        let base = Base::Version { version: row.version, live: row.body.is_some() };
        Entry { base, body: row.body.clone(), read: false, written: false }
    }
}

impl Documents for Snapshot {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable> {
        if let Some(entry) = self.documents.get_mut(collection, key) {
            entry.read = true;
            return Ok(entry.body.as_deref().map(str::to_owned));
        }
        let row = self.reader.document(collection, key)?.unwrap_or_else(|| Row {
            collection: collection.to_owned(),
            key: key.to_owned(),
            version: 0,
            body: None,
        });
        let entry = Entry { read: true, ..Entry::of(&row) };
        self.documents.insert(collection, key, entry);
        Ok(row.body.as_deref().map(str::to_owned))
    }

    fn list(
        &mut self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found: Vec<Document> = Vec::new();
        let mut range = ListRange {
            collection: collection.to_owned(),
            from: prefix.to_owned(),
            until: prefix_end(prefix),
            after: after.map(str::to_owned),
        };
        // The store may stop early, and this turn may have taken away what it gave: a list that is
        // short must be the end, so it goes on until there is enough.
        while let Some(last) = self.list_part(&range, limit - found.len(), &mut found)? {
            if found.len() >= limit || bytes_of(&found) >= LIST_BYTES {
                break;
            }
            range.after = Some(last);
        }
        let mut bytes = 0;
        let fits = found.iter().take_while(|document| {
            let room = bytes < LIST_BYTES;
            bytes += document.body.len();
            room
        });
        let fits = fits.count();
        found.truncate(fits);
        for document in &found {
            if let Some(entry) = self.documents.get_mut(collection, &document.key) {
                entry.read = true;
            }
        }
        Ok(found)
    }
}

impl Snapshot {
    /// Appends the documents of a range as far as the store gives them at once, at most `limit`.
    /// Returns the last key that the store gave, if there may be more.
    fn list_part(
        &mut self,
        range: &ListRange,
        limit: usize,
        found: &mut Vec<Document>,
    ) -> Result<Option<String>, Unreadable> {
        let collection = &range.collection;
        let within = |key: &str| {
            key.starts_with(&range.from) && range.after.as_deref().is_none_or(|after| key > after)
        };
        // Whatever this turn has taken out of the range makes room for one row more of the store's.
        let gone = self.documents.of(collection).filter(|(k, e)| within(k) && e.body.is_none());
        let asked = limit.saturating_add(gone.count());
        let rows = self.reader.list(range, i64::try_from(asked).unwrap_or(i64::MAX))?;
        for row in &rows {
            self.meet(row);
        }
        let bytes: usize = rows.iter().map(|row| row.body.as_ref().map_or(0, |b| b.len())).sum();
        let cut = rows.len() >= asked || bytes >= LIST_BYTES;
        let last = if cut { rows.last().map(|row| row.key.clone()) } else { None };
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let start = found.len();
        found.extend(
            self.documents
                .of(collection)
                .filter(|(key, _)| within(key) && last.as_deref().is_none_or(|last| *key <= last))
                .filter_map(|(key, entry)| {
                    let body = entry.body.as_deref()?.to_owned();
                    Some(Document { collection: collection.clone(), key: key.to_owned(), body })
                }),
        );
        found[start..].sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found.truncate(start.saturating_add(limit));
        self.lists.push(ListGuard { range: range.clone(), last: last.clone(), count });
        Ok(last)
    }
}

fn bytes_of(documents: &[Document]) -> usize {
    documents.iter().map(|document| document.body.len()).sum()
}

/// The first key past all keys with this prefix; `None` where there is none.
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            c => char::from_u32(u32::from(c) + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
