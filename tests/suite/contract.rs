//! The contract's promise: a component that was built against 0.1.0 runs on every later 0.1 host. Held by
//! a frozen copy of that contract, and a guest that uses all of it (guests/frozen).

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::{programs, tool};

/// The copy as it was when 0.1.0 was written down: length and FNV-1a of each file.
const FROZEN: [(&str, usize, u64); 3] = [
    ("handler.wit", 11362, 0xdf63_60ac_2f23_d7d6),
    ("deps/config/package.wit", 32, 0x3f02_2c88_3537_5867),
    ("deps/config/store.wit", 1436, 0x266e_b57c_ccdc_9a77),
];

fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[test]
fn the_frozen_copy_is_as_it_was() -> Result<()> {
    for (name, length, hash) in FROZEN {
        let file = programs::repository().join("tests/contract/0.1.0").join(name);
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        assert_eq!((text.len(), fnv(&text)), (length, hash), "{name} must not be changed");
    }
    Ok(())
}

/// As `invoke` writes payloads that are no JSON. By hand, so that it is not the program's own.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |n: usize| u32::from(three.get(n).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn invoke(place: &Path, message: &Value) -> Result<Value> {
    std::fs::write(place.join("m.json"), message.to_string())?;
    let document = |key: &str| json!({"collection": "frozen", "key": key, "body": {"n": 1}});
    let documents: Vec<Value> = ["7", "l0", "l1", "l2", "l3"].map(document).into();
    std::fs::write(place.join("d.json"), json!(documents).to_string())?;
    let guest = programs::guest("frozen")?.display().to_string();
    let run = [
        "invoke",
        &guest,
        "--message",
        "m.json",
        "--documents",
        "d.json",
        "--set",
        "setting=on",
        "--json",
    ];
    tool::tribox(place, None, &run)?.json()
}

#[test]
fn a_component_of_0_1_0_does_what_it_always_did() -> Result<()> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    let message = |subject: &str, payload: Value| {
        json!({
            "id": "m-1", "subject": subject, "headers": [["Key", "7"], ["A", "b"]],
            "payload": payload, "stored_at": 1_767_225_600_000_u64,
        })
    };
    for (subject, key) in [
        ("frozen.none", "none"),
        ("frozen.7.token", "7"),
        ("frozen.header", "7"),
        ("frozen.field", "7"),
    ] {
        let outcome = invoke(place, &message(subject, json!({"key": "7"})))?;
        assert_eq!(outcome["verdict"], "effects", "{subject}: {outcome:#}");
        let before = if key == "7" { "{\"n\": 1}" } else { "null" };
        let saw = format!(
            "id m-1 subject {subject} key {key} headers A=b,Key=7 stored 1767225600000 setting on \
             of 1 before {before} listed l1,l2"
        );
        let sent = &outcome["messages"];
        let base64 = base64(saw.as_bytes());
        assert_eq!(sent[0]["payload_base64"], base64.as_str(), "{saw}");
        assert_eq!(sent[0]["headers"], json!([["What", "saw"]]));
        assert_eq!(sent[1]["due_after_ms"], 1_000);
        assert_eq!(sent[1]["expires_after_ms"], 5_000);
        assert_eq!(sent[2]["due_at_ms"], 2_000);
        assert_eq!(sent[2]["schedule_name"], "name-at");
        assert_eq!(sent[3]["delivery"], "transient");
        assert_eq!(outcome["cancellations"], json!(["some-name"]));
        assert_eq!(outcome["documents"][0]["after"], json!({"frozen": true}));
        assert_eq!(outcome["documents"][1]["key"], "gone");
    }
    for (payload, verdict) in [("reject", "reject"), ("retry", "retry"), ("panic", "trap")] {
        let mut message = message("frozen.none", Value::Null);
        let fields = message.as_object_mut().context("an object")?;
        fields.remove("payload");
        fields.insert("payload_base64".to_owned(), json!(base64(payload.as_bytes())));
        assert_eq!(invoke(place, &message)?["verdict"], verdict);
    }
    Ok(())
}
