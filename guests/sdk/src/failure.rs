//! Ways to fail. A failure must always carry a text that helps the person who finds the message
//! parked.

use crate::Failure;

impl Failure {
    /// The message can never be handled: it is parked as dead at once.
    pub fn reject(why: impl Into<String>) -> Self {
        Failure::Reject(why.into())
    }

    /// The state is not ready for the message yet: it is handed over again later, with backoff, and
    /// later messages of its key wait behind it.
    pub fn retry(why: impl Into<String>) -> Self {
        Failure::Retry(why.into())
    }

    /// The text for people.
    pub fn text(&self) -> &str {
        match self {
            Failure::Reject(text) | Failure::Retry(text) => text,
        }
    }
}

/// JSON that does not parse today does not parse tomorrow either: a reject.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::Reject(format!("not the expected JSON: {error}"))
    }
}
