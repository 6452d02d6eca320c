//! What one node at a time works on: a handler as a whole, or a partition of it. NATS spreads the messages
//! over the partitions by their keys, with the hash that is computed here as well.

use std::fmt;

/// Where the messages of partitions stand: `tribox.partition.<handler>.<of>.<index>.<subject>`.
const ROOT: &str = "tribox.partition";

/// A handler, or a partition of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    handler: String,
    partition: Option<Partition>,
}

/// One of so many partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// From 0 on.
    pub index: u32,
    pub of: u32,
}

impl Unit {
    /// All of a handler.
    pub fn whole(handler: &str) -> Unit {
        Unit { handler: handler.to_owned(), partition: None }
    }

    /// The units of a handler in so many partitions, or the whole.
    pub fn all(handler: &str, partitions: Option<u32>) -> Vec<Unit> {
        let Some(of) = partitions else { return vec![Unit::whole(handler)] };
        let unit =
            |index| Unit { handler: handler.to_owned(), partition: Some(Partition { index, of }) };
        (0..of).map(unit).collect()
    }

    /// From the name that [`fmt::Display`] gives: `accounts`, or `accounts/2of4`.
    pub fn parse(name: &str) -> Option<Unit> {
        let Some((handler, partition)) = name.split_once('/') else {
            return Some(Unit::whole(name));
        };
        let (index, of) = partition.split_once("of")?;
        let partition = Partition { index: index.parse().ok()?, of: of.parse().ok()? };
        Some(Unit { handler: handler.to_owned(), partition: Some(partition) })
    }

    pub fn handler(&self) -> &str {
        &self.handler
    }

    pub fn partition(&self) -> Option<Partition> {
        self.partition
    }

    /// The name of its consumers.
    pub fn durable(&self) -> String {
        match self.partition {
            None => format!("tribox-{}", self.handler),
            Some(Partition { index, of }) => format!("tribox-{}-{index}of{of}", self.handler),
        }
    }

    /// What stands before the subjects of its messages in its stream; nothing for a whole.
    pub fn prefix(&self) -> String {
        match self.partition {
            None => String::new(),
            Some(Partition { index, of }) => format!("{ROOT}.{}.{of}.{index}.", self.handler),
        }
    }

    /// Whether messages with this key are its own; those without one are the first partition's.
    pub fn has_key(&self, key: Option<&str>) -> bool {
        let Some(Partition { index, of }) = self.partition else { return true };
        key.map_or(0, |key| partition_of(key, of)) == index
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            None => f.write_str(&self.handler),
            Some(Partition { index, of }) => write!(f, "{}/{index}of{of}", self.handler),
        }
    }
}

/// The stream that holds a handler's messages in so many partitions.
pub fn partition_stream(handler: &str, of: u32) -> String {
    format!("tribox-{handler}-{of}")
}

/// What stands before the number of the partition in the subjects of that stream.
pub fn partition_root(handler: &str, of: u32) -> String {
    format!("{ROOT}.{handler}.{of}")
}

/// Whether a subject, or a filter, is one of partitions.
pub fn is_of_partitions(subject: &str) -> bool {
    subject.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with('.'))
}

/// The partition of a key, as NATS computes it: FNV-1a of 32 bits.
fn partition_of(key: &str, of: u32) -> u32 {
    let hash = key
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % of.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for unit in Unit::all("accounts", Some(3)).into_iter().chain([Unit::whole("accounts")]) {
            assert_eq!(Unit::parse(&unit.to_string()), Some(unit));
        }
        assert_eq!(Unit::all("a", Some(2))[1].to_string(), "a/1of2");
        assert_eq!(Unit::all("a", Some(2))[1].prefix(), "tribox.partition.a.2.1.");
        assert_eq!(Unit::all("a", None), [Unit::whole("a")]);
        assert_eq!(Unit::parse("a/b"), None);
    }

    #[test]
    fn each_key_is_in_one_partition() {
        let units = Unit::all("a", Some(4));
        for key in [None, Some("A0"), Some("A1"), Some("ü"), Some("")] {
            assert_eq!(units.iter().filter(|unit| unit.has_key(key)).count(), 1, "{key:?}");
        }
        assert!(units[0].has_key(None));
        assert!(Unit::whole("a").has_key(Some("A0")));
    }
}
