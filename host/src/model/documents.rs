//! The reading side of a turn, as a guest sees it.

use super::{Document, Verdict};

/// Bytes of bodies after which a list ends; whoever lists goes on after the last key.
pub const LIST_BYTES: usize = 8 << 20;

/// Reads of one handler. A read may block the calling thread for a query; calls of a guest therefore
/// run where blocking is allowed.
pub trait Documents: Send {
    /// The body of a document, or `None` where there is none.
    ///
    /// # Errors
    /// The state cannot be read now.
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable>;

    /// Documents whose key starts with `prefix`, in byte order, after key `after`, at most `limit`.
    /// There are fewer only where there are no more, or where their bodies have [`LIST_BYTES`].
    ///
    /// # Errors
    /// The state cannot be read now.
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

/// One finished call of a guest.
#[derive(Debug)]
pub struct Call {
    /// What came of it; an error where the state could not be read, which is nobody's failure.
    pub verdict: Result<Verdict, Unreadable>,
    /// Units of fuel used.
    pub fuel: u64,
    /// Bytes of linear memory at the end.
    pub memory: usize,
}
