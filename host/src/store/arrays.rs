//! Rows turned into one array a column, as `unnest` wants them.

use crate::lane::ports::Row;

/// Documents by column. Sent as text; the statement casts bodies to `jsonb`.
#[derive(Default)]
pub struct Documents<'a> {
    pub collections: Vec<&'a str>,
    pub keys: Vec<&'a str>,
    pub versions: Vec<i64>,
    pub bodies: Vec<Option<&'a str>>,
}

impl<'a> From<&'a [Row]> for Documents<'a> {
    fn from(rows: &'a [Row]) -> Self {
        let mut columns = Documents::default();
        for row in rows {
            columns.collections.push(&row.collection);
            columns.keys.push(&row.key);
            columns.versions.push(row.version);
            columns.bodies.push(row.body.as_deref());
        }
        columns
    }
}

/// Text that Postgres can hold: NUL becomes the replacement character. For texts that are kept for
/// people to read, beside the message itself.
pub fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
