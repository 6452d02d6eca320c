//! What can be tested with components of a few lines: what is refused, and by which words. Real
//! guests run in the test crate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{
    Call, Document, Documents, Failure, Limits, Message, Trap, Unreadable, Verdict,
};

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig { concurrency: 2, cache: None }).unwrap()
}

fn refusal(wasm: &[u8]) -> Problem {
    let error = sandbox().load("x.wasm", wasm).err().expect("a refusal");
    assert!(error.to_string().starts_with("x.wasm: "), "{error}");
    error.problem
}

/// A handler in text form, its two functions given as the bodies of core functions.
///
/// `describe` and `handle` return the address of their result; the data segment at 1024 has a
/// valid description of a handler named `h` that subscribes to `in` without a key, and at 2048
/// stand effects without any entry.
fn handler(describe: &str, handle: &str) -> Vec<u8> {
    let text = include_str!("tests_handler.wat");
    let text = text.replace(";;DESCRIBE", describe).replace(";;HANDLE", handle);
    wat::parse_str(text).unwrap()
}

/// Runs out of fuel long before the deadline: each turn costs twenty units and takes no time.
pub(super) fn looping() -> String {
    format!("(loop {} (br 0)) unreachable", "(drop (i32.const 1))".repeat(20))
}

const DESCRIBE: &str = "i32.const 1024";
const HANDLE: &str = "i32.const 2048";

pub(super) struct Nothing;

impl Documents for Nothing {
    fn get(&mut self, _: &str, _: &str) -> Result<Option<String>, Unreadable> {
        Err(Unreadable("the database is away".into()))
    }

    fn list(
        &mut self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        Ok(Vec::new())
    }
}

pub(super) fn message() -> Message {
    Message {
        id: "m-1".into(),
        subject: "in".into(),
        key: None,
        headers: Vec::new(),
        payload: "{}".into(),
        stored_at: 1,
    }
}

fn call(handle: &str, limits: Limits) -> Call {
    let guest = sandbox().load("x.wasm", &handler(DESCRIBE, handle)).unwrap();
    let guest = guest.configured(BTreeMap::new(), limits);
    guest.call(&message(), Arc::new(Mutex::new(Nothing)))
}

fn trap(handle: &str, limits: Limits) -> (Trap, String) {
    match call(handle, limits).verdict {
        Ok(Verdict::Failed(Failure::Trap { trap, detail })) => (trap, detail),
        other => panic!("not a trap: {other:?}"),
    }
}

#[test]
fn files_that_are_no_components() {
    assert_eq!(refusal(b""), Problem::Empty);
    assert_eq!(refusal(b"#!/bin/sh\n"), Problem::NotWasm("\"#!/bin/s\"".into()));
    assert_eq!(refusal(&wat::parse_str("(module)").unwrap()), Problem::CoreModule);
    assert!(matches!(refusal(b"\0asm\x0d"), Problem::Invalid(_)));
    let whole = handler(DESCRIBE, HANDLE);
    for length in [9, 100, whole.len() / 2, whole.len() - 1] {
        let problem = refusal(&whole[..length]);
        let known = matches!(problem, Problem::Invalid(_) | Problem::NotAHandler(_));
        assert!(known, "{length}: {problem:?}");
    }
}

#[test]
fn components_that_are_no_handlers() {
    let empty = wat::parse_str("(component)").unwrap();
    assert_eq!(refusal(&empty), Problem::NotAHandler("nothing".into()));
    let other = r#"(component (instance $i) (export "acme:shop/cart@1.0.0" (instance $i)))"#;
    let problem = refusal(&wat::parse_str(other).unwrap());
    assert_eq!(problem, Problem::NotAHandler("`acme:shop/cart@1.0.0`".into()));
    let shape =
        r#"(component (instance $i) (export "tribox:handler/handler@0.1.0" (instance $i)))"#;
    let problem = refusal(&wat::parse_str(shape).unwrap());
    assert!(matches!(problem, Problem::Mismatch(_)), "{problem:?}");
}

#[test]
fn foreign_imports_are_named_with_a_remedy() {
    for import in ["wasi:http/outgoing-handler@0.2.3", "wasi:sockets/tcp@0.3.0", "acme:log/log"] {
        let text = format!(r#"(component (import "{import}" (instance)))"#);
        match refusal(&wat::parse_str(text).unwrap()) {
            Problem::ForeignImport { import: named, remedy } => {
                assert_eq!(named, import);
                assert!(!remedy.is_empty());
            }
            other => panic!("{import}: {other:?}"),
        }
    }
}

#[test]
fn a_describe_that_traps_or_loops_is_refused() {
    let problem = refusal(&handler("unreachable", HANDLE));
    assert!(matches!(&problem, Problem::Describe(why) if why.contains("unreachable")), "{problem}");
    let problem = refusal(&handler(&looping(), HANDLE));
    assert!(matches!(&problem, Problem::Describe(why) if why.contains("fuel")), "{problem}");
}

#[test]
fn a_bad_description_is_refused() {
    // The name becomes the empty string.
    let problem =
        refusal(&handler("(i32.store (i32.const 1028) (i32.const 0)) i32.const 1024", HANDLE));
    assert!(
        matches!(&problem, Problem::Description(why) if why.contains("name \"\"")),
        "{problem}"
    );
}

#[test]
fn a_handler_loads_and_handles() {
    let guest = sandbox().load("x.wasm", &handler(DESCRIBE, HANDLE)).unwrap();
    assert_eq!(guest.description().name, "h");
    assert_eq!(guest.contract(), "0.1.0");
    assert_eq!(guest.digest().len(), 64);
    let first = call(HANDLE, Limits::default());
    assert!(matches!(&first.verdict, Ok(Verdict::Effects(e)) if e.mutations.is_empty()));
    assert_eq!(first.memory, 65536);
    assert_eq!(first.fuel, call(HANDLE, Limits::default()).fuel);
}

#[test]
fn limits_are_told_apart() {
    let (kind, detail) = trap("unreachable", Limits::default());
    assert_eq!(kind, Trap::Panic, "{detail}");
    let (kind, detail) = trap(&looping(), Limits { fuel: 1_000_000, ..Limits::default() });
    assert_eq!(kind, Trap::Fuel, "{detail}");
    let deadline = std::time::Duration::from_millis(50);
    let (kind, detail) = trap(&looping(), Limits { fuel: u64::MAX, deadline, ..Limits::default() });
    assert_eq!(kind, Trap::Deadline, "{detail}");
    let growing = "(memory.grow (i32.const 100)) i32.const -1 i32.eq if unreachable end \
                   i32.const 2048";
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let (kind, detail) = trap(growing, limits);
    assert_eq!(kind, Trap::Memory, "{detail}");
    assert!(detail.contains("the limit is 1048576 bytes"), "{detail}");
    assert!(matches!(call(growing, Limits::default()).verdict, Ok(Verdict::Effects(_))));
    let (kind, detail) = trap(
        "(memory.grow (i32.const 100)) drop i32.const 2048",
        Limits { memory: 1 << 10, ..Limits::default() },
    );
    assert_eq!(kind, Trap::Memory, "{detail}");
}

#[test]
fn what_a_guest_hands_over_is_bounded() {
    // A list of 2^27 mutations, which would not fit into its memory either.
    let many = "(i32.store (i32.const 2056) (i32.const 134217728)) i32.const 2048";
    let verdict = call(many, Limits::default()).verdict;
    assert!(matches!(&verdict, Ok(Verdict::Failed(_))), "{verdict:?}");
}

#[test]
fn compiled_components_are_kept_and_a_damaged_one_is_compiled_again() {
    let place = tempfile::tempdir().unwrap();
    let config = SandboxConfig { concurrency: 1, cache: Some(place.path().join("cache")) };
    let wasm = handler(DESCRIBE, HANDLE);
    Sandbox::new(config.clone()).unwrap().load("x.wasm", &wasm).unwrap();
    let file = std::fs::read_dir(place.path().join("cache")).unwrap().next().unwrap().unwrap();
    let whole = std::fs::read(file.path()).unwrap();
    for damaged in [&whole[..whole.len() - 1], &whole[..10], b""] {
        std::fs::write(file.path(), damaged).unwrap();
        Sandbox::new(config.clone()).unwrap().load("x.wasm", &wasm).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap().len(), whole.len());
    }
    let cached = Sandbox::new(config).unwrap();
    let engine = &cached.inner.engine;
    let guest = cached.load("x.wasm", &wasm).unwrap();
    assert!(cached.inner.cache.as_ref().unwrap().get(engine, guest.digest()).is_some());
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let config = SandboxConfig { concurrency: 1, cache: Some(place.path().to_owned()) };
    let sandbox = Sandbox::new(config).unwrap();
    assert!(sandbox.inner.cache.is_none());
    sandbox.load("x.wasm", &handler(DESCRIBE, HANDLE)).unwrap();
}
