//! A builder for effects. It only collects: nothing happens before the host commits what `handle`
//! returned.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Delivery, Document, DocumentId, Due, Effects, Failure, Header, Mutation, Outgoing, Timestamp,
};

impl Effects {
    /// No effects: the message is handled and changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a document or replaces it whole.
    ///
    /// # Errors
    /// A reject where `body` cannot be written as JSON.
    pub fn put<T>(&mut self, collection: &str, key: &str, body: &T) -> Result<&mut Self, Failure>
    where
        T: Serialize + ?Sized,
    {
        let body = serde_json::to_string(body).map_err(|error| {
            Failure::Reject(format!("document {collection}/{key} is not JSON: {error}"))
        })?;
        Ok(self.put_json(collection, key, body))
    }

    /// Creates a document or replaces it whole, from JSON text.
    pub fn put_json(&mut self, collection: &str, key: &str, body: String) -> &mut Self {
        self.mutations.push(Mutation::Put(Document {
            collection: collection.to_owned(),
            key: key.to_owned(),
            body,
        }));
        self
    }

    /// Removes a document; not an error where there is none.
    pub fn delete(&mut self, collection: &str, key: &str) -> &mut Self {
        self.mutations.push(Mutation::Delete(DocumentId {
            collection: collection.to_owned(),
            key: key.to_owned(),
        }));
        self
    }

    /// Sends a message with a JSON payload. What is returned takes headers, a due time and so on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tribox_guest::{Effects, Failure};
    /// # fn main() -> Result<(), Failure> {
    /// let mut effects = Effects::new();
    /// effects
    ///     .send("orders.7.remind", &serde_json::json!({"order": 7}))?
    ///     .header("Lang", "de")
    ///     .after(Duration::from_secs(3600))
    ///     .named("remind-7");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A reject where `payload` cannot be written as JSON.
    pub fn send<T>(
        &mut self,
        subject: impl Into<String>,
        payload: &T,
    ) -> Result<&mut Outgoing, Failure>
    where
        T: Serialize + ?Sized,
    {
        let subject = subject.into();
        let payload = serde_json::to_vec(payload).map_err(|error| {
            Failure::Reject(format!("the message to {subject} is not JSON: {error}"))
        })?;
        Ok(self.send_bytes(subject, payload))
    }

    /// Sends a message with any payload.
    pub fn send_bytes(&mut self, subject: impl Into<String>, payload: Vec<u8>) -> &mut Outgoing {
        self.messages.push(Outgoing {
            subject: subject.into(),
            headers: Vec::new(),
            payload,
            delivery: Delivery::Durable,
            due: None,
            expires_after: None,
            schedule_name: None,
        });
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    /// Takes back the named message that is not yet due, sent when an earlier message was handled.
    /// Cancellations come before the messages of the same effects. Unknown names are not an error.
    pub fn cancel(&mut self, schedule_name: impl Into<String>) -> &mut Self {
        self.cancellations.push(schedule_name.into());
        self
    }
}

impl Outgoing {
    /// Adds a header line.
    pub fn header(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Publishes it this long after the commit, in whole milliseconds.
    pub fn after(&mut self, delay: Duration) -> &mut Self {
        self.due = Some(Due::After(milliseconds(delay)));
        self
    }

    /// Publishes it at this time; at once when it is past.
    pub fn at(&mut self, time: Timestamp) -> &mut Self {
        self.due = Some(Due::At(time));
        self
    }

    /// Does not publish it any more when it is this much past its due time, or past the commit.
    pub fn expires_after(&mut self, age: Duration) -> &mut Self {
        self.expires_after = Some(milliseconds(age));
        self
    }

    /// Names it, so that a later message of this name replaces it or [`Effects::cancel`] takes it
    /// back. Only for messages with a due time.
    pub fn named(&mut self, schedule_name: impl Into<String>) -> &mut Self {
        self.schedule_name = Some(schedule_name.into());
        self
    }

    /// Sends it over core NATS right after the commit, past every stream: who is not listening does
    /// not hear it, and a crash may lose it. Not with a due time, an expiry or a name.
    pub fn transient(&mut self) -> &mut Self {
        self.delivery = Delivery::Transient;
        self
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
