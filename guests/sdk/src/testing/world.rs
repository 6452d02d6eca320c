//! What a handler can reach while it runs natively. It stands in a variable of the thread, where
//! the functions that stand in for the host's imports find it, and only during a call.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{Description, Document, DocumentId};

/// The state that a handler sees.
#[derive(Default)]
pub struct World {
    /// Bodies by collection and key. A declared collection is here also when it is empty.
    pub documents: BTreeMap<String, BTreeMap<String, String>>,
    pub settings: BTreeMap<String, String>,
}

impl World {
    pub fn of(description: &Description) -> Self {
        let documents =
            description.collections.iter().map(|name| (name.clone(), BTreeMap::new())).collect();
        World { documents, settings: BTreeMap::new() }
    }

    /// Puts a document that was checked. Like `jsonb`, it does not keep white space, the order of
    /// object keys and duplicate keys.
    pub fn put(&mut self, document: &Document) {
        let body = serde_json::from_str::<serde_json::Value>(&document.body)
            .map_or_else(|_| document.body.clone(), |value| value.to_string());
        self.documents
            .entry(document.collection.clone())
            .or_default()
            .insert(document.key.clone(), body);
    }

    pub fn delete(&mut self, id: &DocumentId) {
        if let Some(collection) = self.documents.get_mut(&id.collection) {
            collection.remove(&id.key);
        }
    }
}

/// What is being called.
pub enum Turn {
    Describing,
    Handling(World),
}

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// Takes the turn away when the call ends, also by a panic.
struct EndOfTurn;

impl Drop for EndOfTurn {
    fn drop(&mut self) {
        TURN.take();
    }
}

/// Calls the handler, and gives the world back.
pub fn run<T>(turn: Turn, call: impl FnOnce() -> T) -> (T, World) {
    let _end = EndOfTurn;
    TURN.replace(Some(turn));
    let result = call();
    match TURN.take() {
        Some(Turn::Handling(world)) => (result, world),
        _ => (result, World::default()),
    }
}

/// Stand-ins for the host's imports.
pub(crate) mod imports {
    use std::ops::Bound;

    use super::{BTreeMap, TURN, Turn, World};
    use crate::Document;

    pub fn get(collection: &str, key: &str) -> Option<String> {
        read(collection, |documents| documents.get(key).cloned())
    }

    pub fn list_by_prefix(
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Vec<Document> {
        let limit = limit.min(crate::documents::PAGE) as usize;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        read(collection, |documents| {
            documents
                .range::<str, _>((from, Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(limit)
                .scan(0, |bytes, entry| {
                    let room = *bytes < crate::documents::PAGE_BYTES;
                    *bytes += entry.1.len();
                    room.then_some(entry)
                })
                .map(|(key, body)| Document {
                    collection: collection.to_owned(),
                    key: key.clone(),
                    body: body.clone(),
                })
                .collect()
        })
    }

    pub fn setting(name: &str) -> Result<Option<String>, String> {
        Ok(with_turn(&format!("reads setting '{name}'"), |turn| match turn {
            Turn::Describing => None,
            Turn::Handling(world) => world.settings.get(name).cloned(),
        }))
    }

    fn read<T>(collection: &str, read: impl FnOnce(&BTreeMap<String, String>) -> T) -> T {
        with_turn(&format!("reads collection '{collection}'"), |turn| match turn {
            Turn::Describing => {
                panic!("describe reads collection '{collection}': no document is there yet")
            }
            Turn::Handling(World { documents, .. }) => match documents.get(collection) {
                Some(documents) => read(documents),
                None => panic!(
                    "the handler reads collection '{collection}', which it does not declare; add \
                     .collection(\"{collection}\") to its description"
                ),
            },
        })
    }

    fn with_turn<T>(what: &str, then: impl FnOnce(&Turn) -> T) -> T {
        TURN.with_borrow(|turn| match turn {
            Some(turn) => then(turn),
            None => panic!("code outside of a host {what}; run the handler by TestHost::handle"),
        })
    }
}
