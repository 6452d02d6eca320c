//! Documents that this lane has lately read or written. A cached document may be stale, never wrong:
//! the commit checks every version it rests on, and a conflict empties the cache. Versions of a
//! document begin anew once the tombstone of a deleted one is pruned, so nothing is kept for as long
//! as a tombstone is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::map::DocumentMap;

/// Version and body of a document; version 0: there was no row.
#[derive(Debug, Clone)]
pub struct Cached {
    pub version: i64,
    pub body: Option<Arc<str>>,
}

/// How long a document is taken from here after it was read from the store or checked by a commit: far
/// less than tombstones are kept (an hour).
const MAX_AGE: Duration = Duration::from_secs(600);

/// Two generations: when the young one is full it becomes the old one, and the old one is dropped.
#[derive(Debug)]
pub struct Cache {
    young: DocumentMap<(Cached, Instant)>,
    old: DocumentMap<(Cached, Instant)>,
    size: usize,
    capacity: usize,
}

impl Cache {
    /// `capacity` in bytes of bodies and keys, for one generation.
    pub fn new(capacity: usize) -> Self {
        Cache { young: DocumentMap::default(), old: DocumentMap::default(), size: 0, capacity }
    }

    pub fn get(&mut self, collection: &str, key: &str, now: Instant) -> Option<Cached> {
        let fresh = |since: Instant| now.saturating_duration_since(since) < MAX_AGE;
        if let Some((cached, since)) = self.young.get(collection, key) {
            return fresh(*since).then(|| cached.clone());
        }
        let (cached, since) = self.old.remove(collection, key)?;
        if !fresh(since) {
            return None;
        }
        self.keep(collection, key, cached.clone(), since);
        Some(cached)
    }

    /// Keeps a document that was read from the store, or checked by a commit, at `now`.
    pub fn put(&mut self, collection: &str, key: &str, cached: Cached, now: Instant) {
        self.keep(collection, key, cached, now);
    }

    /// Whether it is here, however old.
    pub fn has(&self, collection: &str, key: &str) -> bool {
        self.young.get(collection, key).is_some() || self.old.get(collection, key).is_some()
    }

    fn keep(&mut self, collection: &str, key: &str, cached: Cached, since: Instant) {
        // Fixed costs of an entry are counted roughly, so that many small ones are bounded, too.
        let size = 128 + key.len() + cached.body.as_ref().map_or(0, |b| b.len());
        if self.size + size > self.capacity {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
        match self.young.get_mut(collection, key) {
            Some(there) => *there = (cached, since),
            None => self.young.insert(collection, key, (cached, since)),
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
        let now = Instant::now();
        let mut cache = Cache::new(1_000);
        cache.put("c", "used", cached(7), now);
        for n in 0..100 {
            cache.put("c", &n.to_string(), cached(n), now);
            assert_eq!(cache.get("c", "used", now).map(|c| c.version), Some(7));
        }
        assert!(cache.get("c", "0", now).is_none());
        assert!(cache.young.len() + cache.old.len() < 20);
    }

    #[test]
    fn a_removed_document_is_gone_from_both_generations() {
        let now = Instant::now();
        let mut cache = Cache::new(300);
        cache.put("c", "a", cached(1), now);
        cache.put("c", "b", cached(1), now);
        cache.remove("c", "a");
        cache.remove("c", "b");
        assert!(cache.get("c", "a", now).is_none() && cache.get("c", "b", now).is_none());
    }

    #[test]
    fn what_was_not_checked_for_long_is_read_again() {
        let now = Instant::now();
        let mut cache = Cache::new(300);
        cache.put("c", "a", cached(1), now);
        let later = now + MAX_AGE / 2;
        // Using it does not make it younger, in neither generation.
        assert!(cache.get("c", "a", later).is_some());
        cache.put("c", "b", cached(1), later);
        assert!(cache.get("c", "a", later).is_some());
        assert!(cache.get("c", "a", now + MAX_AGE).is_none());
        assert!(cache.get("c", "b", now + MAX_AGE).is_some());
    }
}
