//! The imports of the contract. In a component they are calls of the host; natively they are calls
//! of the test host that is running on this thread. Nothing else in this crate knows which.

#[cfg(target_family = "wasm")]
mod imports {
    use crate::Document;
    use crate::bindings::tribox::handler::documents;
    use crate::bindings::wasi::config::store;

    pub fn get(collection: &str, key: &str) -> Option<String> {
        documents::get(collection, key)
    }

    pub fn list_by_prefix(
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Vec<Document> {
        documents::list_by_prefix(collection, prefix, after, limit)
    }

    pub fn setting(name: &str) -> Result<Option<String>, String> {
        store::get(name).map_err(|error| match error {
            store::Error::Upstream(text) | store::Error::Io(text) => text,
        })
    }
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::imports;

pub use imports::{get, list_by_prefix, setting};
