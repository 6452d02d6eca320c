use tribox_guest::testing::{Incoming, TestHost, assert_effects, message};

use super::*;

fn told_to(key: &str, what: Value) -> Incoming {
    message(&format!("chaos.{key}.do")).json(&what)
}

#[test]
fn it_counts() -> Result<(), Failure> {
    let mut host = TestHost::<Chaos>::new();
    host.handle(told_to("a", json!({"do": "count"})))?;
    assert_effects(
        &host.handle(told_to("a", json!({"do": "count"})))?,
        r#"
        put chaos/a {"count":2}
        send chaos.events.a.count {"count":2}
        "#,
    );
    Ok(())
}

#[test]
fn it_retries_until_it_is_ready() -> Result<(), Failure> {
    let mut host = TestHost::<Chaos>::new();
    let until = told_to("a", json!({"do": "retry-until", "of": "b"}));
    assert_eq!(host.handle(until.clone()), Err(Failure::retry("b is not ready yet")));
    host.handle(told_to("b", json!({"do": "ready"})))?;
    assert_eq!(host.handle(until)?.messages[0].subject, "chaos.events.a.done");
    Ok(())
}

#[test]
fn it_lists_and_reads() -> Result<(), Failure> {
    let mut host = TestHost::<Chaos>::new();
    host.handle(told_to("a", json!({"do": "many", "n": 2})))?;
    assert_effects(
        &host.handle(told_to("b", json!({"do": "list", "prefix": "a/"})))?,
        r#"
        put chaos/b {"keys":["a/0","a/1"]}
        send chaos.events.b.list {"keys":["a/0","a/1"]}
        "#,
    );
    let read = host.handle(told_to("b", json!({"do": "read", "keys": ["a/1", "none"]})))?;
    assert!(read.to_string().contains(r#"put chaos/b {"found":[{"n":1},null]}"#), "{read}");
    Ok(())
}

#[test]
fn it_schedules_and_cancels() -> Result<(), Failure> {
    let mut host = TestHost::<Chaos>::new();
    assert_effects(
        &host.handle(told_to("a", json!({"do": "schedule", "name": "x", "after": 10})))?,
        r#"send chaos.events.a.schedule {"name":"x"} [after 10 ms, as x]"#,
    );
    assert!(host.scheduled("x").is_some());
    assert_effects(&host.handle(told_to("a", json!({"do": "cancel", "name": "x"})))?, "cancel x");
    assert!(host.scheduled("x").is_none());
    assert_effects(
        &host.handle(told_to("a", json!({"do": "expire"})))?,
        "send chaos.events.a.expire {} [at 1767222000000, expires after 1000 ms]",
    );
    Ok(())
}

#[test]
fn an_unknown_verb_is_rejected() {
    let outcome = TestHost::<Chaos>::new().handle(told_to("a", json!({"do": "sing"})));
    assert!(
        matches!(outcome, Err(Failure::Reject(text)) if text.contains("unknown variant `sing`"))
    );
}

#[test]
fn what_breaks_the_contract_is_named() {
    let chaos = |what: &str| {
        let what: Value = serde_json::from_str(what).expect("the test's own JSON");
        let outcome = std::panic::catch_unwind(|| {
            TestHost::<Chaos>::new().handle(told_to("a", what)).map(|effects| effects.to_string())
        });
        let why = outcome.expect_err("the test host refuses it");
        why.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    for (what, expected) in [
        (r#"{"do":"panic"}"#, "a was told to panic"),
        (r#"{"do":"read-outside"}"#, "reads collection 'accounts', which it does not declare"),
        (r#"{"do":"write-outside"}"#, "changes accounts/a, but does not declare the collection"),
        (r#"{"do":"publish-outside"}"#, "accounts.7.credit: no declared subject covers it"),
        (r#"{"do":"invalid-json"}"#, "document chaos/a is not JSON"),
        (r#"{"do":"nul"}"#, "has a NUL (\\u0000) in a string"),
        (r#"{"do":"nul-key"}"#, "has a NUL"),
        (r#"{"do":"flood","n":10001}"#, "10001 effects; 10000 are allowed"),
        (r#"{"do":"many","n":10001}"#, "10001 effects; 10000 are allowed"),
        (r#"{"do":"huge-document","bytes":1048577}"#, "1048577 bytes; 1048576 are allowed"),
        (r#"{"do":"huge-message","bytes":1048577}"#, "1048577 bytes; 1048576 are allowed"),
        (r#"{"do":"header","name":"Nats-Msg-Id","value":"1"}"#, "is the host's"),
        (r#"{"do":"header","name":"a:b","value":"1"}"#, "printable ASCII without a colon"),
        (r#"{"do":"poison","what":"number"}"#, "document chaos/a is not JSON"),
    ] {
        let why = chaos(what);
        assert!(why.contains(expected), "{what}: {why}");
    }
}
