//! What one message may use. Each violation is a [`super::Failure`] that names the limit.

use std::time::Duration;

/// Limits per message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Units of wasmtime fuel: the deterministic deadline, about 50 ms of computing per 1e9.
    pub fuel: u64,
    /// Wall-clock backstop of a call.
    pub deadline: Duration,
    /// Bytes of linear memory of all memories of the guest.
    pub memory: usize,
    /// Mutations, messages and cancellations together.
    pub effects: usize,
    /// Bytes of all effects together.
    pub effects_size: usize,
    /// Bytes of one document.
    pub document_size: usize,
    /// Bytes of one outgoing payload.
    pub payload_size: usize,
    /// Handlers that the message may have come through.
    pub hops: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fuel: 4_000_000_000,
            deadline: Duration::from_secs(5),
            memory: 128 << 20,
            effects: 10_000,
            effects_size: 8 << 20,
            document_size: 1 << 20,
            payload_size: 1 << 20,
            hops: 1_000,
        }
    }
}
