//! The sandbox: runs a guest on one message, deterministically, within limits, with no effect but
//! what it returns. The only room that speaks wasmtime.

use crate::model::{Document, Verdict};

/// The reading side of a turn, as a guest sees it. A read may block the calling thread for a query;
/// calls of the guest therefore run where blocking is allowed.
pub trait Documents: Send {
    /// The body of a document, or `None` where there is none.
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable>;

    /// Documents whose key starts with `prefix`, in byte order, after key `after`, at most `limit`.
    fn list(
        &mut self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Unreadable>;
}

/// The state cannot be read now. The call is abandoned and the message stays as it is.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state cannot be read: {0}")]
pub struct Unreadable(pub String);

/// One finished call.
#[derive(Debug)]
pub struct Call {
    pub verdict: Result<Verdict, Unreadable>,
    /// Units of fuel used.
    pub fuel: u64,
    /// Bytes of linear memory at the end.
    pub memory: usize,
}
