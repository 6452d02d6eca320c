//! Acknowledging what was committed.

use async_nats::Client;
use bytes::Bytes;

use super::Nats;
use crate::fault::{self, Point};
use crate::lane::ports::{Delivery, Settle};

const ACK: Bytes = Bytes::from_static(b"+ACK");
const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");
/// Not before a second (in nanoseconds): whoever says so is about to leave and may still be asked.
const LATER: Bytes = Bytes::from_static(b"-NAK {\"delay\": 1000000000}");

/// Acknowledges deliveries.
#[derive(Debug, Clone)]
pub struct Acknowledge {
    client: Client,
}

impl Acknowledge {
    pub fn new(nats: &Nats) -> Self {
        Acknowledge { client: nats.client.clone() }
    }

    /// Acknowledges one message. A lost acknowledgement means a redelivery, which the inbox meets.
    pub(super) async fn ack(&self, reply: &str) {
        self.send(reply, ACK).await;
    }

    /// Asks for more time for a message that is in hand.
    pub(super) async fn in_progress(&self, reply: &str) {
        self.send(reply, IN_PROGRESS).await;
    }

    /// Gives back a message that is not handled here.
    pub(super) async fn give_back(&self, reply: &str) {
        self.send(reply, LATER).await;
    }

    async fn send(&self, reply: &str, word: Bytes) {
        if let Err(why) = self.client.publish(reply.to_owned(), word).await {
            tracing::debug!(reply, "acknowledgement was not sent: {why}");
        }
    }
}

impl Settle for Acknowledge {
    async fn settle(&self, deliveries: &[&Delivery]) {
        for delivery in deliveries {
            let Some(reply) = delivery.done() else { continue };
            if fault::point(Point::BeforeAck).is_err() {
                continue;
            }
            if fault::twice(Point::BeforeAck) {
                self.ack(&reply).await;
            }
            self.ack(&reply).await;
            fault::pass(Point::AfterAck);
        }
    }
}
