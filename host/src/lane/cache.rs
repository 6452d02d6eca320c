//! Documents that this lane has lately read or written. A cached document may be stale, never wrong:
//! the commit checks every version it rests on, and a conflict empties the cache.

use std::sync::Arc;

use super::map::DocumentMap;

/// Version and body of a document; version 0: there was no row.
#[derive(Debug, Clone)]
pub struct Cached {
    pub version: i64,
    pub body: Option<Arc<str>>,
}

/// Two generations: when the young one is full it becomes the old one, and the old one is dropped.
#[derive(Debug)]
pub struct Cache {
    young: DocumentMap<Cached>,
    old: DocumentMap<Cached>,
    size: usize,
    capacity: usize,
}

impl Cache {
    /// `capacity` in bytes of bodies and keys, for one generation.
    pub fn new(capacity: usize) -> Self {
        Cache { young: DocumentMap::default(), old: DocumentMap::default(), size: 0, capacity }
    }

    pub fn get(&mut self, collection: &str, key: &str) -> Option<Cached> {
        if let Some(cached) = self.young.get(collection, key) {
            return Some(cached.clone());
        }
        let cached = self.old.remove(collection, key)?;
        self.put(collection, key, cached.clone());
        Some(cached)
    }

    pub fn put(&mut self, collection: &str, key: &str, cached: Cached) {
        // Fixed costs of an entry are counted roughly, so that many small ones are bounded, too.
        let size = 128 + key.len() + cached.body.as_ref().map_or(0, |b| b.len());
        if self.size + size > self.capacity {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
        match self.young.get_mut(collection, key) {
            Some(there) => *there = cached,
            None => self.young.insert(collection, key, cached),
        }
        self.size += size;
    }

    pub fn remove(&mut self, collection: &str, key: &str) {
        self.young.remove(collection, key);
        self.old.remove(collection, key);
    }

    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.size = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(version: i64) -> Cached {
        Cached { version, body: Some("x".repeat(100).into()) }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Cache::new(1_000);
        cache.put("c", "used", cached(7));
        for n in 0..100 {
            cache.put("c", &n.to_string(), cached(n));
            assert_eq!(cache.get("c", "used").map(|c| c.version), Some(7));
        }
        assert!(cache.get("c", "0").is_none());
        assert!(cache.young.len() + cache.old.len() < 20);
    }

    #[test]
    fn a_removed_document_is_gone_from_both_generations() {
        let mut cache = Cache::new(300);
        cache.put("c", "a", cached(1));
        cache.put("c", "b", cached(1));
        cache.remove("c", "a");
        cache.remove("c", "b");
        assert!(cache.get("c", "a").is_none() && cache.get("c", "b").is_none());
    }
}
