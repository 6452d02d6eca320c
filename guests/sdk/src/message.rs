//! Reading a message. Nothing here may panic on what others send.

use serde::Deserialize;

use crate::{Failure, Message};

impl Message {
    /// The payload, as JSON.
    ///
    /// ```
    /// # use tribox_guest::{Failure, Message};
    /// #[derive(serde::Deserialize)]
    /// struct Debit {
    ///     amount: i64,
    /// }
    ///
    /// fn amount(message: &Message) -> Result<i64, Failure> {
    ///     Ok(message.json::<Debit>()?.amount)
    /// }
    /// ```
    ///
    /// # Errors
    /// A reject where the payload is not JSON of this type.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.payload).map_err(|error| {
            Failure::Reject(format!(
                "the payload of {} is not the expected JSON: {error}",
                self.subject
            ))
        })
    }

    /// The key that the subscription's key source picked out of the message.
    ///
    /// # Errors
    /// A reject where the subscription asks for no key.
    pub fn key(&self) -> Result<&str, Failure> {
        self.key.as_deref().ok_or_else(|| {
            Failure::Reject(format!(
                "the message on {} has no key: its subscription asks for none",
                self.subject
            ))
        })
    }

    /// The nth token of the subject, from 0: of `accounts.7.debit`, token 1 is `7`.
    pub fn token(&self, n: usize) -> Option<&str> {
        self.subject.split('.').nth(n)
    }

    /// The last token of the subject, which often says what is to be done.
    pub fn last_token(&self) -> &str {
        self.subject.rsplit('.').next().unwrap_or_default()
    }

    /// The first value of a header. Names are compared as they are written.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }
}
