//! Publishing to JetStream: pipelined, acknowledgements matched by a number.
//!
//! Order is kept by giving each connection a thread and a runtime of its own, and dropping both when
//! it breaks: nothing that was handed to a broken connection can be sent later, behind what the relay
//! sends again. What was in flight is in doubt then, and the relay sends it again under the same ids.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap, StatusCode, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Fence, NatsOptions};
use crate::fault::{self, Fault, Point};

/// How long an acknowledgement may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing is published after a gap: what the process still had to send might come behind what another
/// node has published in its place.
const FENCED: &str =
    "this node's lease was not confirmed in time; nothing is published until it is";

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The connection it is meant for; it is not sent over another one.
    pub connection: u64,
    /// Comes back in the acknowledgement. Messages without one are not acknowledged: core NATS.
    pub token: Option<u64>,
    pub id: String,
    pub subject: String,
    /// `Name: value` lines.
    pub headers: String,
    pub payload: Bytes,
}

/// What the publisher tells the relay.
#[derive(Debug)]
pub enum Event {
    /// A connection stands; messages for it may be sent.
    Up { connection: u64, max_payload: usize },
    /// The stream has the message; `duplicate`: it had it before.
    Stored { token: u64, duplicate: bool },
    /// The server did not take the message.
    Refused { token: u64, refusal: Refusal },
    /// The connection is gone, and with it all that was not acknowledged.
    Down { connection: u64, why: String },
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody answered: no stream has the subject, or JetStream is not up.
    NoStream,
    /// The server does not let this account publish to the subject; its own words.
    Denied(String),
    /// JetStream's own error.
    Server { code: u64, description: String },
}

/// The relay's end of the publisher.
#[derive(Debug)]
pub struct Publisher {
    messages: mpsc::UnboundedSender<Publish>,
}

impl Publisher {
    /// Starts the publisher's thread. It ends when the publisher and the events' receiver are dropped.
    /// It publishes nothing while `fence` does not hold.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(
        options: NatsOptions,
        fence: Fence,
    ) -> std::io::Result<(Publisher, mpsc::UnboundedReceiver<Event>)> {
        let (messages, incoming) = mpsc::unbounded_channel();
        let (events, outgoing) = mpsc::unbounded_channel();
        let worker = Worker { options, fence, incoming, events };
        std::thread::Builder::new().name("publisher".to_owned()).spawn(move || worker.run())?;
        Ok((Publisher { messages }, outgoing))
    }

    /// Hands a message over. The relay bounds how many are on their way.
    pub fn send(&self, message: Publish) {
        // The thread ends only with this sender.
        let _ = self.messages.send(message);
    }
}

struct Worker {
    options: NatsOptions,
    fence: Fence,
    incoming: mpsc::UnboundedReceiver<Publish>,
    events: mpsc::UnboundedSender<Event>,
}

impl Worker {
    fn run(mut self) {
        let mut connection = 0;
        let mut failures = 0_u32;
        while !self.events.is_closed() {
            if !self.fence.holds() {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            connection += 1;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let why = match runtime {
                Ok(runtime) => runtime.block_on(self.session(connection)),
                Err(why) => Err(format!("no runtime for the publisher: {why}")),
            };
            // Here the runtime is gone, and with it whatever the client still had to send.
            match why {
                Ok(Some(why)) => {
                    failures = 0;
                    let _ = self.events.send(Event::Down { connection, why });
                }
                Ok(None) => return,
                Err(why) => {
                    failures += 1;
                    let _ = self.events.send(Event::Down { connection, why });
                }
            }
            let pause = Duration::from_millis(20).saturating_mul(1 << failures.min(6));
            std::thread::sleep(pause.min(Duration::from_secs(1)));
        }
    }

    /// One connection, from its start to its end. `None`: the relay is gone.
    async fn session(&mut self, connection: u64) -> Result<Option<String>, String> {
        let (complain, mut complaints) = mpsc::unbounded_channel();
        let client = self.options.connect_once(complain).await.map_err(|why| why.to_string())?;
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(format!("{inbox}.*")).await;
        let mut acks = subscribed.map_err(|why| format!("cannot subscribe: {why}"))?;
        client.flush().await.map_err(|why| format!("cannot flush: {why}"))?;
        let max_payload = client.server_info().max_payload;
        let _ = self.events.send(Event::Up { connection, max_payload });
        let fence = self.fence.clone();
        let mut session = Session { client, fence, inbox, in_flight: VecDeque::new() };
        let mut batch = Vec::with_capacity(256);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                count = self.incoming.recv_many(&mut batch, 256) => {
                    if count == 0 {
                        if !session.fence.holds() {
                            return Ok(None);
                        }
                        let flushed = session.client.flush();
                        let _ = tokio::time::timeout(Duration::from_secs(1), flushed).await;
                        return Ok(None);
                    }
                    // The client of a broken connection takes no more than its buffer holds.
                    let sent = session.send_all(batch.drain(..), connection);
                    match tokio::time::timeout(PATIENCE, sent).await {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => return Ok(Some(why)),
                        Err(_) => return Ok(Some("the connection takes nothing more".to_owned())),
                    }
                }
                ack = acks.next() => match ack {
                    Some(ack) => {
                        if let Some(event) = session.acknowledged(&ack) {
                            let _ = self.events.send(event);
                        }
                    }
                    None => return Ok(Some("the connection was closed".to_owned())),
                },
                Some(complaint) = complaints.recv() => {
                    tracing::debug!("the server complains of the relay: {complaint}");
                    for event in session.denied(&complaint) {
                        let _ = self.events.send(event);
                    }
                }
                _ = tick.tick() => {
                    if let Some(why) = session.trouble() {
                        return Ok(Some(why));
                    }
                }
            }
        }
    }
}

struct Session {
    client: Client,
    fence: Fence,
    inbox: String,
    /// Oldest first; some may be answered already.
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    token: u64,
    sent: Instant,
    subject: Subject,
    answered: bool,
}

/// What JetStream answers to a publish.
#[derive(Deserialize)]
struct PubAck {
    #[serde(default)]
    duplicate: bool,
    error: Option<PubError>,
}

#[derive(Deserialize)]
struct PubError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What JetStream answered to a publish: whether it had the message before.
///
/// # Errors
/// It refuses the message, or answers what nobody can read.
pub fn pub_ack(payload: &[u8]) -> Result<bool, Refusal> {
    let refused = |code, description| Refusal::Server { code, description };
    match serde_json::from_slice::<PubAck>(payload) {
        Ok(PubAck { error: Some(error), .. }) => Err(refused(error.err_code, error.description)),
        Ok(PubAck { duplicate, .. }) => Ok(duplicate),
        Err(why) => Err(refused(0, format!("the answer to a publish cannot be read: {why}"))),
    }
}

impl Session {
    async fn send_all(
        &mut self,
        messages: impl Iterator<Item = Publish>,
        connection: u64,
    ) -> Result<(), String> {
        for message in messages.filter(|m| m.connection == connection) {
            self.send(message).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Publish) -> Result<(), String> {
        if !self.fence.holds() {
            return Err(FENCED.to_owned());
        }
        if self.client.connection_state() != async_nats::connection::State::Connected {
            return Err("the connection was lost".to_owned());
        }
        fault::point(Point::BeforePublish).map_err(broken)?;
        let headers = header_map(&message)?;
        let Publish { token, subject, payload, .. } = message;
        let subject = Subject::from(subject);
        let sent = match token {
            Some(token) => {
                let (sent, to) = (Instant::now(), subject.clone());
                self.in_flight.push_back(InFlight { token, sent, subject: to, answered: false });
                let reply = format!("{}.{token}", self.inbox);
                let client = &self.client;
                let publish = |subject, reply, headers, payload| {
                    client.publish_with_reply_and_headers(subject, reply, headers, payload)
                };
                if fault::twice(Point::BeforePublish) {
                    let (subject, reply) = (subject.clone(), reply.clone());
                    let _ = publish(subject, reply, headers.clone(), payload.clone()).await;
                }
                publish(subject, reply, headers, payload).await
            }
            None => self.client.publish_with_headers(subject, headers, payload).await,
        };
        sent.map_err(|why| format!("cannot publish: {why}"))?;
        fault::point(Point::AfterPublish).map_err(broken)
    }

    fn acknowledged(&mut self, ack: &async_nats::Message) -> Option<Event> {
        let token: u64 = ack.subject.rsplit('.').next()?.parse().ok()?;
        fault::point(Point::PubAckSeen).ok()?;
        if let Ok(at) = self.in_flight.binary_search_by_key(&token, |message| message.token) {
            self.in_flight[at].answered = true;
        }
        self.forget_answered();
        if ack.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Event::Refused { token, refusal: Refusal::NoStream });
        }
        Some(match pub_ack(&ack.payload) {
            Ok(duplicate) => Event::Stored { token, duplicate },
            Err(refusal) => Event::Refused { token, refusal },
        })
    }

    /// What a complaint of the server means: it names a subject, and no message to it goes through.
    fn denied(&mut self, complaint: &str) -> Vec<Event> {
        let Some(subject) = denied_subject(complaint) else { return Vec::new() };
        let mut events = Vec::new();
        for message in self.in_flight.iter_mut().filter(|m| !m.answered && *m.subject == *subject) {
            message.answered = true;
            let refusal = Refusal::Denied(complaint.to_owned());
            events.push(Event::Refused { token: message.token, refusal });
        }
        self.forget_answered();
        events
    }

    fn forget_answered(&mut self) {
        while self.in_flight.front().is_some_and(|message| message.answered) {
            self.in_flight.pop_front();
        }
    }

    /// Why this connection should be given up, if it should.
    fn trouble(&self) -> Option<String> {
        if !self.fence.holds() {
            return Some(FENCED.to_owned());
        }
        if self.client.connection_state() != async_nats::connection::State::Connected {
            return Some("the connection was lost".to_owned());
        }
        (self.in_flight.front()?.sent.elapsed() > PATIENCE).then(|| {
            format!(
                "no acknowledgement for {} s; the log of nats-server may say why (a full disk?)",
                PATIENCE.as_secs()
            )
        })
    }
}

fn broken(fault: Fault) -> String {
    fault.to_string()
}

/// The subject of `Permissions Violation for Publish to "orders.events"`.
pub fn denied_subject(complaint: &str) -> Option<&str> {
    let (what, rest) = complaint.split_once('"')?;
    let publishing = what.to_ascii_lowercase().starts_with("permissions violation for publish");
    if publishing { rest.split('"').next() } else { None }
}

/// The headers of a message as they are sent.
///
/// # Errors
/// One of its lines is no header; what a handler returns is checked before.
pub fn header_map(message: &Publish) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    if message.token.is_some() {
        map.insert(async_nats::header::NATS_MESSAGE_ID, message.id.as_str());
    }
    for line in message.headers.lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        let name: async_nats::HeaderName =
            name.parse().map_err(|why| format!("header '{name}' cannot be sent: {why}"))?;
        let value: async_nats::HeaderValue =
            value.parse().map_err(|why| format!("header value '{value}' cannot be sent: {why}"))?;
        map.append(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What the rules for effects let through, the client takes: otherwise one message would end
        /// each connection.
        #[test]
        fn headers_that_a_handler_may_send_are_sent_as_they_are(
            headers in proptest::collection::vec(("[!-9;-~]{1,12}", "[^\\r\\n\\x00]{0,20}"), 0..6),
        ) {
            let allowed = |name: &str| !name.to_ascii_lowercase().starts_with("nats-");
            let headers: Vec<_> = headers.into_iter().filter(|(name, _)| allowed(name)).collect();
            let lines: String = headers.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
            let message = Publish {
                connection: 1,
                token: Some(1),
                id: "id-1".into(),
                subject: "a".into(),
                headers: lines,
                payload: Bytes::new(),
            };
            let map = header_map(&message).expect("can be sent");
            let id = map.get(async_nats::header::NATS_MESSAGE_ID).map(|id| id.as_str());
            proptest::prop_assert_eq!(id, Some("id-1"));
            for (name, _) in &headers {
                let sent: Vec<&str> =
                    map.get_all(name.as_str()).map(|value| value.as_str()).collect();
                let given: Vec<&str> =
                    headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
                proptest::prop_assert_eq!(sent, given);
            }
        }
    }

    #[test]
    fn an_answer_to_a_publish_is_read() {
        assert_eq!(pub_ack(br#"{"stream":"S","seq":1}"#), Ok(false));
        assert_eq!(pub_ack(br#"{"stream":"S","seq":1,"duplicate":true}"#), Ok(true));
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"full"}}"#;
        let refused = |code, description: &str| {
            Err(Refusal::Server { code, description: description.to_owned() })
        };
        assert_eq!(pub_ack(full), refused(10_077, "full"));
        assert!(matches!(pub_ack(b"what?"), Err(Refusal::Server { code: 0, .. })));
    }

    #[test]
    fn the_subject_of_a_complaint_is_found() {
        let complaint = "Permissions Violation for Publish to \"orders.Events\"";
        assert_eq!(denied_subject(complaint), Some("orders.Events"));
        for other in
            ["Permissions Violation for Subscription to \"a\"", "Stale Connection", "Slow \"a\""]
        {
            assert_eq!(denied_subject(other), None, "{other}");
        }
    }
}
