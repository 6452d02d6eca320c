//! Tests of the snapshot, against a store of three documents.

use super::*;

/// A store with three documents; versions are 5.
struct Three;

impl Reader for Three {
    fn document(&self, collection: &str, key: &str) -> Result<Option<Row>, Unreadable> {
        Ok(rows(collection).into_iter().find(|row| row.key == key))
    }

    fn list(&self, range: &ListRange, limit: i64) -> Result<Vec<Row>, Unreadable> {
        let mut found = rows(&range.collection);
        found.retain(|row| {
            row.key >= range.from
                && range.until.as_ref().is_none_or(|until| row.key < *until)
                && range.after.as_ref().is_none_or(|after| row.key > *after)
        });
        found.truncate(usize::try_from(limit).expect("small"));
        Ok(found)
    }
}

fn rows(collection: &str) -> Vec<Row> {
    let row = |key: &str| Row {
        collection: collection.to_owned(),
        key: key.to_owned(),
        version: 5,
        body: Some(format!("\"{key}\"").into()),
    };
    vec![row("a/1"), row("a/2"), row("b/1")]
}

fn put(key: &str, body: &str) -> Mutation {
    Mutation::Put(Document { collection: "c".into(), key: key.into(), body: body.into() })
}

fn keys(found: &[Document]) -> Vec<&str> {
    found.iter().map(|d| d.key.as_str()).collect()
}

#[test]
fn a_list_sees_what_the_turn_has_written_and_deleted() {
    let mut snapshot = Snapshot::new(Arc::new(Three));
    let gone = Mutation::Delete { collection: "c".into(), key: "a/1".into() };
    snapshot.apply(&[put("a/3", "3"), put("a/15", "15"), gone]);
    let all = snapshot.list("c", "a/", None, 10).expect("readable");
    assert_eq!(keys(&all), ["a/15", "a/2", "a/3"]);
    let first = snapshot.list("c", "a/", None, 1).expect("readable");
    assert_eq!(keys(&first), ["a/15"]);
    let rest = snapshot.list("c", "a/", Some("a/15"), 10).expect("readable");
    assert_eq!(keys(&rest), ["a/2", "a/3"]);
}

/// A store with twenty documents of 1 MiB that stops where it may.
struct Large;

impl Reader for Large {
    fn document(&self, _: &str, _: &str) -> Result<Option<Row>, Unreadable> {
        Ok(None)
    }

    fn list(&self, range: &ListRange, limit: i64) -> Result<Vec<Row>, Unreadable> {
        let body: Arc<str> = "x".repeat(1 << 20).into();
        let rows = (0..20).map(|n| Row {
            collection: range.collection.clone(),
            key: format!("a/{n:02}"),
            version: 1,
            body: Some(Arc::clone(&body)),
        });
        let after = |row: &Row| range.after.as_ref().is_none_or(|after| row.key > *after);
        let limit = usize::try_from(limit).expect("small").min(8);
        Ok(rows.filter(after).take(limit).collect())
    }
}

#[test]
fn a_list_ends_after_so_many_bytes_and_goes_on_after_its_last_key() {
    let mut snapshot = Snapshot::new(Arc::new(Large));
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = snapshot.list("c", "a/", after.as_deref(), 1_000).expect("readable");
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        pages.push(page.len());
    }
    assert_eq!(pages, [8, 8, 4]);
    let lasts = |snapshot: &Snapshot| {
        let lists = snapshot.lists.iter();
        lists.map(|list| (list.last.clone(), list.count)).collect::<Vec<_>>()
    };
    let some = |key: &str| Some(key.to_owned());
    let guards = [(some("a/07"), 8), (some("a/15"), 8), (None, 4), (None, 0)];
    assert_eq!(lasts(&snapshot), guards);
}

#[test]
fn a_list_is_not_short_for_what_this_turn_has_deleted() {
    let mut snapshot = Snapshot::new(Arc::new(Large));
    let gone = |n| Mutation::Delete { collection: "c".into(), key: format!("a/{n:02}") };
    snapshot.apply(&(0..14).map(gone).collect::<Vec<_>>());
    let page = snapshot.list("c", "a/", None, 1_000).expect("readable");
    assert_eq!(keys(&page), ["a/14", "a/15", "a/16", "a/17", "a/18", "a/19"]);
    let page = snapshot.list("c", "a/", None, 2).expect("readable");
    assert_eq!(keys(&page), ["a/14", "a/15"]);
    // What it writes counts as well.
    let large = "x".repeat(5 << 20);
    snapshot.apply(&[put("a/00", &large), put("a/01", &large), put("a/02", &large)]);
    let page = snapshot.list("c", "a/", None, 1_000).expect("readable");
    assert_eq!(keys(&page), ["a/00", "a/01"]);
}

#[test]
fn what_was_read_is_checked_and_what_was_written_is_written_once() {
    let mut snapshot = Snapshot::new(Arc::new(Three));
    assert_eq!(snapshot.get("c", "a/1").expect("readable").as_deref(), Some("\"a/1\""));
    assert_eq!(snapshot.get("c", "nothing").expect("readable"), None);
    snapshot.get("c", "b/1").expect("readable");
    snapshot.apply(&[put("a/1", "1"), put("a/1", "2"), put("new", "3")]);
    let changes = snapshot.changes();
    let names = |rows: &[Row]| rows.iter().map(|r| r.key.clone()).collect::<Vec<_>>();
    assert_eq!(names(&changes.updates), ["a/1"]);
    assert_eq!(changes.updates[0].body.as_deref(), Some("2"));
    assert_eq!(names(&changes.creates), ["nothing"]);
    assert_eq!(names(&changes.blind), ["new"]);
    assert_eq!(names(&changes.reads), ["b/1"]);
    assert_eq!(changes.changed, ["c"]);
}

fn ahead(key: &str, version: i64) -> Row {
    let (collection, key) = ("c".to_owned(), key.to_owned());
    Row { collection, key, version, body: Some("1".into()) }
}

#[test]
fn what_was_read_ahead_is_checked_where_it_was_read() {
    let mut snapshot = Snapshot::new(Arc::new(Three));
    snapshot.preload(&ahead("a/1", 5));
    snapshot.preload(&ahead("b/1", 5));
    assert_eq!(snapshot.get("c", "a/1").expect("readable").as_deref(), Some("1"));
    assert_eq!(snapshot.changes().reads, [Row { body: None, ..ahead("a/1", 5) }]);
}

#[test]
fn a_turn_that_saw_two_states_of_a_document_is_torn() {
    let mut snapshot = Snapshot::new(Arc::new(Three));
    snapshot.preload(&ahead("a/1", 7));
    assert!(!snapshot.torn());
    snapshot.list("c", "a/", None, 10).expect("readable");
    assert!(snapshot.torn(), "the store lists it with another version");
}

#[test]
fn the_end_of_a_prefix_is_past_all_its_keys() {
    assert_eq!(prefix_end("a/").as_deref(), Some("a0"));
    assert_eq!(prefix_end("a\u{10ffff}").as_deref(), Some("b"));
    assert_eq!(prefix_end("\u{d7ff}").as_deref(), Some("\u{e000}"));
    assert_eq!(prefix_end(""), None);
}
