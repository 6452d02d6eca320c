//! A map by collection and key that is looked up without building a pair of strings.

use std::collections::HashMap;

/// Values by (collection, key).
#[derive(Debug)]
pub struct DocumentMap<T> {
    collections: HashMap<String, HashMap<String, T>>,
}

impl<T> Default for DocumentMap<T> {
    fn default() -> Self {
        DocumentMap { collections: HashMap::new() }
    }
}

impl<T> DocumentMap<T> {
    pub fn get(&self, collection: &str, key: &str) -> Option<&T> {
        self.collections.get(collection)?.get(key)
    }

    pub fn get_mut(&mut self, collection: &str, key: &str) -> Option<&mut T> {
        self.collections.get_mut(collection)?.get_mut(key)
    }

    pub fn insert(&mut self, collection: &str, key: &str, value: T) {
        match self.collections.get_mut(collection) {
            Some(keys) => {
                keys.insert(key.to_owned(), value);
            }
            None => {
                let keys = HashMap::from([(key.to_owned(), value)]);
                self.collections.insert(collection.to_owned(), keys);
            }
        }
    }

    pub fn remove(&mut self, collection: &str, key: &str) -> Option<T> {
        self.collections.get_mut(collection)?.remove(key)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.collections.values().map(HashMap::len).sum()
    }

    pub fn clear(&mut self) {
        self.collections.clear();
    }

    /// The values of one collection.
    pub fn of(&self, collection: &str) -> impl Iterator<Item = (&str, &T)> {
        self.collections.get(collection).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &T)> {
        self.collections
            .iter()
            .flat_map(|(c, keys)| keys.iter().map(move |(k, v)| (c.as_str(), k.as_str(), v)))
    }
}
