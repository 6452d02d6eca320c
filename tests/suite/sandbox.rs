//! Real guests in the sandbox, without servers: each thing that `chaos` tries is stopped and named,
//! and what it may do comes out the same every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tribox::model::{
    Call, Document, Documents, Effects, Failure, Limits, Message, Mutation, Trap, Unreadable,
    Verdict,
};
use tribox::sandbox::{Guest, Sandbox, SandboxConfig};

static CHAOS: LazyLock<Guest> = LazyLock::new(|| guest("chaos"));
static ACCOUNTS: LazyLock<Guest> = LazyLock::new(|| guest("accounts"));

fn guest(name: &str) -> Guest {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasm32-wasip2/release");
    let file = built.join(name).with_extension("wasm");
    let wasm = fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; build the guests first", file.display()));
    Sandbox::new(SandboxConfig::default()).unwrap().load(name, &wasm).unwrap()
}

/// Documents in memory; none of them can be read when `away`.
#[derive(Default)]
struct Memory {
    documents: BTreeMap<(String, String), String>,
    away: bool,
}

impl Documents for Memory {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable> {
        if self.away {
            return Err(Unreadable("the database is away".into()));
        }
        Ok(self.documents.get(&(collection.into(), key.into())).cloned())
    }

    fn list(
        &mut self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        let within = |(c, key): &(String, String)| {
            c == collection && key.starts_with(prefix) && after.is_none_or(|a| key.as_str() > a)
        };
        let found = self.documents.iter().filter(|(id, _)| within(id)).take(limit as usize);
        let document = |((collection, key), body): (&(String, String), &String)| Document {
            collection: collection.clone(),
            key: key.clone(),
            body: body.clone(),
        };
        Ok(found.map(document).collect())
    }
}

fn message(subject: &str, key: &str, payload: &Value) -> Message {
    Message {
        id: "m-1".into(),
        subject: subject.into(),
        key: Some(key.into()),
        headers: Vec::new(),
        payload: payload.to_string().into(),
        stored_at: 1_700_000_000_123,
    }
}

fn chaos_with(limits: Limits, payload: &Value) -> Call {
    let guest = CHAOS.configured(BTreeMap::new(), limits);
    guest.call(&message("chaos.7.do", "7", payload), Arc::new(Mutex::new(Memory::default())))
}

fn chaos(payload: &Value) -> Verdict {
    chaos_with(Limits::default(), payload).verdict.unwrap()
}

fn failure(payload: &Value) -> Failure {
    match chaos(payload) {
        Verdict::Failed(failure) => failure,
        Verdict::Effects(effects) => panic!("{payload} came through: {effects:?}"),
    }
}

fn effects(payload: &Value) -> Effects {
    match chaos(payload) {
        Verdict::Effects(effects) => effects,
        Verdict::Failed(failure) => panic!("{payload} failed: {failure}"),
    }
}

/// What `chaos` wrote into the document of its key.
fn seen(payload: &Value) -> Value {
    match &effects(payload).mutations[..] {
        [Mutation::Put(document)] => serde_json::from_str(&document.body).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_ends_by_force_is_named() {
    for (verb, trap, words) in [
        ("panic", Trap::Panic, "7 was told to panic"),
        ("spin", Trap::Fuel, "units of fuel"),
        ("allocate", Trap::Memory, "the limit is 134217728 bytes"),
        ("stack", Trap::Panic, "stack is used up; in chaos::traps::stack::deeper"),
        ("read-outside", Trap::Contract, "does not declare"),
    ] {
        // However slow the machine is, it is not the wall clock that ends it.
        let limits = Limits { deadline: Duration::from_secs(120), ..Limits::default() };
        let verdict = chaos_with(limits, &json!({ "do": verb })).verdict.unwrap();
        let Verdict::Failed(failure) = verdict else { panic!("{verb}: {verdict:?}") };
        match failure {
            Failure::Trap { trap: kind, detail } => {
                assert_eq!(kind, trap, "{verb}: {detail}");
                assert!(detail.contains(words), "{verb}: {detail}");
            }
            other => panic!("{verb}: {other:?}"),
        }
    }
}

#[test]
fn the_wall_clock_is_the_backstop() {
    let limits =
        Limits { fuel: u64::MAX, deadline: Duration::from_millis(100), ..Limits::default() };
    let verdict = chaos_with(limits, &json!({"do": "spin"})).verdict.unwrap();
    let Verdict::Failed(failure) = verdict else { panic!("{verdict:?}") };
    assert_eq!(failure.reason(), "deadline", "{failure}");
}

#[test]
fn effects_that_break_the_rules_are_refused() {
    for (payload, words) in [
        (json!({"do": "write-outside"}), "collection \"accounts\""),
        (json!({"do": "publish-outside"}), "accounts.7.credit"),
        (json!({"do": "invalid-json"}), "no JSON to be stored"),
        (json!({"do": "nul"}), "\\u0000"),
        (json!({"do": "nul-key"}), "without NUL"),
        (json!({"do": "huge-document", "bytes": (1 << 20) + 1}), "a body of 1048577 bytes"),
        (json!({"do": "huge-message", "bytes": (1 << 20) + 1}), "a payload of 1048577 bytes"),
        (json!({"do": "flood", "n": 10_001}), "at most 10000"),
        (json!({"do": "many", "n": 10_001}), "at most 10000"),
        (json!({"do": "header", "name": "Nats-Msg-Id", "value": "x"}), "are the host's"),
        (json!({"do": "header", "name": "X", "value": "a\r\nb: c"}), "CR, LF and NUL"),
    ] {
        match failure(&payload) {
            Failure::InvalidEffects(text) => assert!(text.contains(words), "{payload}: {text}"),
            other => panic!("{payload}: {other:?}"),
        }
    }
    assert_eq!(failure(&json!({"do": "reject"})).reason(), "reject");
    assert_eq!(failure(&json!({"do": "retry"})).reason(), "retry");
}

#[test]
fn a_handler_sees_the_same_world_every_time() {
    for verb in ["clock", "random", "file", "ok"] {
        let payload = json!({ "do": verb });
        assert_eq!(effects(&payload), effects(&payload), "{verb}");
    }
    assert_eq!(seen(&json!({"do": "clock"}))["now"], 1_700_000_000_123_u64);
    let file = seen(&json!({"do": "file"}));
    for what in ["read", "write", "list", "connect", "bind", "resolve"] {
        assert!(file[what]["failed"].is_string(), "{what}: {file}");
    }
    assert_eq!((&file["environment"], &file["arguments"]), (&json!(0), &json!(0)), "{file}");
    assert_eq!(seen(&json!({"do": "print", "text": "hello"}))["flushed"], true);
}

#[test]
fn fuel_is_the_same_every_time() {
    let payload = json!({"do": "count"});
    let [first, again] = [(); 2].map(|()| chaos_with(Limits::default(), &payload));
    assert_eq!((first.fuel, first.memory), (again.fuel, again.memory));
    let exact = Limits { fuel: first.fuel, ..Limits::default() };
    assert!(matches!(chaos_with(exact, &payload).verdict, Ok(Verdict::Effects(_))));
    // Fuel is looked at where functions and loops begin, so the end comes a little late.
    let short = Limits { fuel: first.fuel / 2, ..Limits::default() };
    let verdict = chaos_with(short, &payload).verdict.unwrap();
    assert!(matches!(&verdict, Verdict::Failed(f) if f.reason() == "fuel"), "{verdict:?}");
}

#[test]
fn state_that_cannot_be_read_is_nobodys_failure() {
    let memory = Memory { away: true, ..Memory::default() };
    let message = message("chaos.7.do", "7", &json!({"do": "count"}));
    let call = CHAOS.call(&message, Arc::new(Mutex::new(memory)));
    assert_eq!(call.verdict.unwrap_err().0, "the database is away");
}

#[test]
fn settings_reach_the_handler() {
    let mut memory = Memory::default();
    memory
        .documents
        .insert(("accounts".into(), "7".into()), json!({"balance": 50, "changes": 1}).to_string());
    let documents = Arc::new(Mutex::new(memory));
    let message = message("accounts.7.debit", "7", &json!({"amount": 1}));
    let sent = |threshold: &str| {
        let settings = BTreeMap::from([("threshold".to_owned(), threshold.to_owned())]);
        let guest = ACCOUNTS.configured(settings, Limits::default());
        match guest.call(&message, documents.clone()).verdict {
            Ok(Verdict::Effects(effects)) => effects.messages.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([sent("10"), sent("50")], [1, 2]);
}

/// Calls block, so a runtime's worker makes way for others; sleeping and printing need no runtime
/// of their own then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_run_within_a_runtime() {
    let call = tokio::spawn(async {
        tokio::task::block_in_place(|| {
            [json!({"do": "print", "text": "hello"}), json!({"do": "clock"})].map(|p| seen(&p))
        })
    });
    assert_eq!(call.await.unwrap()[0]["text"], "hello");
}
