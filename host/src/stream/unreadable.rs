//! Messages that the client cannot read: headers that are no UTF-8, say. Servers take them from
//! anybody, and the client drops the connection at each, again and again, for all handlers. So such
//! a message is fetched by itself, through JetStream's API, which hands out bytes, and set aside.

use std::str::FromStr;
use std::time::Instant;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderName, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::consume::Reader;
use super::consumption::Consumption;
use super::route::lane_of;
use super::{Nats, NatsError};
use crate::lane::ports::Admission;

/// A message that cannot be handed to a handler.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub sequence: u64,
    pub subject: String,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch.
    pub stored_at: u64,
    pub why: String,
}

impl Reader {
    /// Whether the message that comes next is one that the client cannot read: then it is the
    /// cause of broken connections, and a lane is to set it aside.
    pub(super) async fn set_unreadable_aside(&self) -> Result<(), NatsError> {
        let Consumption { stream: name, filters, .. } = &self.consumption;
        let durable = self.consumption.unit.durable();
        let Some(stream) = self.stream().await? else { return Ok(()) };
        let info = stream.consumer_info(&durable).await;
        let info = info.map_err(|why| NatsError::passing("the consumer cannot be read", &why))?;
        let floor = self.source.floor().max(info.ack_floor.stream_sequence);
        let filters = filters.exact();
        let Some(unreadable) = next_unreadable(&self.nats, name, filters, floor).await? else {
            return Ok(());
        };
        // As JetStream writes it for a first delivery: it goes by the sequence in the stream.
        let Unreadable { sequence, stored_at, .. } = unreadable;
        let reply = format!("$JS.ACK.{name}.{durable}.1.{sequence}.1.0.0");
        match self.source.admit(sequence, stored_at, &reply, Instant::now()) {
            Admission::New => {
                self.metrics.received.inc();
                let delivery = self.router.unreadable(&self.source, unreadable);
                let lane = lane_of(&delivery.message, self.lanes.len());
                // An error means that the lanes have ended, and so does reading.
                let _ = self.lanes[lane].send(delivery).await;
            }
            Admission::Done => self.acknowledge.ack(&reply).await,
            Admission::InHand => {}
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Found {
    message: RawMessage,
}

/// The first message of a stream after `after` that one of the filters matches, if the client
/// cannot read it.
///
/// # Errors
/// JetStream does not answer.
pub(super) async fn next_unreadable(
    nats: &Nats,
    stream: &str,
    filters: &[String],
    after: u64,
) -> Result<Option<Unreadable>, NatsError> {
    let mut next: Option<RawMessage> = None;
    for filter in filters {
        let asked = json!({"seq": after + 1, "next_by_subj": filter});
        let subject = format!("STREAM.MSG.GET.{stream}");
        let answer: Response<Found> = nats
            .jetstream
            .request(subject, &asked)
            .await
            .map_err(|why| NatsError::passing("a message cannot be fetched", &why))?;
        match answer {
            Response::Ok(Found { message }) => {
                if next.as_ref().is_none_or(|next| message.sequence < next.sequence) {
                    next = Some(message);
                }
            }
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {}
            Response::Err { error } => {
                return Err(NatsError::passing("a message cannot be fetched", &error));
            }
        }
    }
    Ok(next.and_then(unreadable))
}

fn unreadable(message: RawMessage) -> Option<Unreadable> {
    let decoded = |text: &str| STANDARD.decode(text).unwrap_or_default();
    let headers = message.headers.as_deref().map(decoded).unwrap_or_default();
    let why = trouble(&message.subject, &headers)?;
    let stored_at = message.time.unix_timestamp_nanos() / 1_000_000;
    Some(Unreadable {
        sequence: message.sequence,
        payload: decoded(&message.payload).into(),
        stored_at: u64::try_from(stored_at).unwrap_or_default(),
        subject: message.subject,
        why: format!("{why}; whoever publishes it has to be mended"),
    })
}

/// What the client stumbles over, as it reads subject and headers.
pub(crate) fn trouble(subject: &str, headers: &[u8]) -> Option<String> {
    // JetStream's JSON has this in place of bytes that are no UTF-8.
    if subject.contains(char::REPLACEMENT_CHARACTER) {
        return Some("its subject is not UTF-8".to_owned());
    }
    if subject.contains(char::is_whitespace) {
        return Some("its subject has white space in it".to_owned());
    }
    if headers.is_empty() {
        return None;
    }
    let Ok(text) = std::str::from_utf8(headers) else {
        return Some(format!("its headers are not UTF-8: \"{}\"", shown(headers)));
    };
    let mut lines = text.lines();
    let Some(status) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else {
        return Some(format!("its headers do not begin with NATS/1.0: \"{}\"", shown(headers)));
    };
    let status = status.trim().split(' ').next().unwrap_or_default();
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return Some(format!("its headers have a status \"{}\"", shown(status.as_bytes())));
    }
    let mut first = true;
    for line in lines.filter(|line| !line.is_empty()) {
        // A line that begins with white space goes on with the one before.
        if !first && line.starts_with(char::is_whitespace) {
            continue;
        }
        first = false;
        let name = line.split_once(':').map(|(name, _)| name);
        if name.is_none_or(|name| HeaderName::from_str(name).is_err()) {
            return Some(format!(
                "it has a line that is no header: \"{}\"",
                shown(line.as_bytes())
            ));
        }
    }
    None
}

/// The beginning of some bytes, for people.
fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_reads_is_readable() {
        for headers in
            ["", "NATS/1.0\r\n\r\n", "NATS/1.0 503\r\n\r\n", "NATS/1.0\r\nA: b\r\n  c\r\n\r\n"]
        {
            assert_eq!(trouble("a.\u{e9}.b", headers.as_bytes()), None, "{headers:?}");
        }
    }

    #[test]
    fn what_it_stumbles_over_is_named() {
        for (subject, headers, words) in [
            ("a.\u{fffd}.b", &b""[..], "subject is not UTF-8"),
            ("a.\u{a0}.b", b"", "white space"),
            ("a", b"NATS/1.0\r\nX: caf\xe9\r\n\r\n", "not UTF-8: \"NATS/1.0\\r\\nX: caf\\xe9"),
            ("a", b"HTTP/1.0\r\n\r\n", "begin with NATS/1.0"),
            ("a", b"NATS/1.0 nonsense\r\n\r\n", "status \"nonsense\""),
            ("a", b"NATS/1.0\r\nthis is none\r\n\r\n", "no header: \"this is none\""),
            ("a", "NATS/1.0\r\nna\u{e9}: x\r\n\r\n".as_bytes(), "no header"),
        ] {
            let why = trouble(subject, headers).unwrap_or_default();
            assert!(why.contains(words), "{words}: {why}");
        }
    }
}
