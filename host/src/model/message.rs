//! A message as it stands in its stream, and a document of the state.

use bytes::Bytes;

/// One NATS header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A message as a handler gets it. The contract's `message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is deduplicated by, per handler. See [`super::identity::message_id`].
    pub id: String,
    pub subject: String,
    /// What the subscription's key source picked out of the message.
    pub key: Option<String>,
    pub headers: Vec<Header>,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch: when the stream stored the message.
    pub stored_at: u64,
}

impl Message {
    /// When the message is past, in milliseconds since the Unix epoch: `Nats-TTL` (JetStream's own:
    /// seconds, or `90s`, `5m`, `1h30m`; counted from when it was stored), or `ce-expirytime`
    /// (CloudEvents: a time as in RFC 3339), whichever comes first. What cannot be read counts for
    /// nothing.
    pub fn expires_at(&self) -> Option<u64> {
        let of = |header: &Header| {
            if header.name.eq_ignore_ascii_case("Nats-TTL") {
                ttl(&header.value).map(|ttl| self.stored_at.saturating_add(ttl))
            } else if header.name.eq_ignore_ascii_case("ce-expirytime") {
                let at = humantime::parse_rfc3339(header.value.trim()).ok()?;
                let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
                u64::try_from(since.as_millis()).ok()
            } else {
                None
            }
        };
        self.headers.iter().filter_map(of).min()
    }
}

/// Milliseconds of a `Nats-TTL`; `never` has none.
fn ttl(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000).filter(|ms| *ms > 0);
    }
    let duration = humantime::parse_duration(text).ok()?;
    u64::try_from(duration.as_millis()).ok().filter(|ms| *ms > 0)
}

/// A JSON document of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub collection: String,
    pub key: String,
    /// JSON text.
    pub body: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expires(headers: &[(&str, &str)]) -> Option<u64> {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let message = Message {
            id: String::new(),
            subject: String::new(),
            key: None,
            headers: headers.iter().map(header).collect(),
            payload: Bytes::new(),
            stored_at: 1_000_000,
        };
        message.expires_at()
    }

    #[test]
    fn a_message_says_when_it_is_past() {
        assert_eq!(expires(&[]), None);
        assert_eq!(expires(&[("Nats-TTL", "5")]), Some(1_005_000));
        assert_eq!(expires(&[("nats-ttl", "1h30m")]), Some(6_400_000));
        assert_eq!(expires(&[("ce-expirytime", "1970-01-01T00:20:00Z")]), Some(1_200_000));
        let both = [("ce-expirytime", "1970-01-01T00:20:00Z"), ("Nats-TTL", "1m")];
        assert_eq!(expires(&both), Some(1_060_000));
    }

    #[test]
    fn what_cannot_be_read_never_expires() {
        for value in ["never", "", "soon", "-5", "0", "99999999999999999999"] {
            assert_eq!(expires(&[("Nats-TTL", value)]), None, "{value}");
        }
        assert_eq!(expires(&[("ce-expirytime", "tomorrow")]), None);
    }
}
