//! How much memory a call may use. Growing past the limit fails as WebAssembly says it does
//! (`memory.grow` returns -1); that it happened is remembered, because most guests abort then, and
//! an abort alone looks like a panic.

use wasmtime::ResourceLimiter;

use super::engine::TABLE_ELEMENTS;

pub(super) struct Meter {
    limit: usize,
    used: usize,
    refused: Option<String>,
}

impl Meter {
    /// `limit` in bytes of all linear memories together.
    pub(super) fn new(limit: usize) -> Meter {
        Meter { limit, used: 0, refused: None }
    }

    /// Bytes of all linear memories together.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// What was refused, if anything was.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.used.saturating_sub(current).saturating_add(desired);
        if total > self.limit {
            self.refused = Some(format!(
                "the guest asked for {total} bytes of memory; the limit is {} bytes",
                self.limit
            ));
            return Ok(false);
        }
        self.used = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            self.refused = Some(format!(
                "the guest asked for a table of {desired} elements; the limit is {TABLE_ELEMENTS}"
            ));
            return Ok(false);
        }
        Ok(true)
    }
}
