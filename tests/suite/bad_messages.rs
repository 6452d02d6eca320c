//! Messages that make no sense: each is handled or set aside with a clear reason, and the rest goes
//! on.

use std::path::Path;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use tribox::servers::NatsOptions;
use tribox_tests::tables::{self, Parked};
use tribox_tests::{Stack, StackOptions, chaos, raw, wait_until};

fn row<'a>(parked: &'a [Parked], id: &str) -> Result<&'a Parked> {
    parked.iter().find(|row| row.message_id == id).with_context(|| format!("{id}: {parked:#?}"))
}

/// JSON with this many bytes beyond what is needed.
fn padded(padding: usize) -> String {
    json!({"do": "ok", "padding": "x".repeat(padding)}).to_string()
}

#[tokio::test]
async fn payloads_that_the_handler_cannot_read_are_set_aside() -> Result<()> {
    let mut stack = Stack::new("payloads").await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "EOF while parsing a value"),
        ("cut", b"{\"do\":", "EOF while parsing a value"),
        ("text", b"do it", "expected value"),
        ("null", b"null", "invalid type: null"),
        ("binary", b"\xff\xfe\x00\x01", "expected value"),
        ("latin", b"{\"do\":\"\xe9\"}", "invalid unicode code point"),
        ("nul", b"{\"do\":\"a\\u0000\"}", "unknown variant"),
        ("deep", &[b'['; 100_000], "the payload of chaos.deep.do"),
        ("zeros", &[0; 1_000_000], "expected value"),
    ];
    for (id, payload, _) in cases {
        let subject = format!("chaos.{id}.do");
        stack.broker.publish_as(id, &subject, payload.to_vec()).await?;
        chaos::order(&stack.broker, &format!("{id}-after"), id, &json!({"do": "ok"})).await?;
    }
    let large = padded(1_000_000);
    stack.broker.publish_as("large", "chaos.large.do", large).await?;

    let told = chaos::told_when(&stack.broker, cases.len() + 1).await?;
    assert_eq!(told.iter().filter(|event| event.verb == "ok").count(), cases.len() + 1);
    let parked = tables::parked_when(&stack.pool, cases.len()).await?;
    let sql = "SELECT payload FROM tribox.parked WHERE message_id = $1";
    for (id, payload, words) in cases {
        let row = row(&parked, id)?;
        assert_eq!((row.state.as_str(), row.reason.as_str()), ("dead", "reject"), "{row:?}");
        assert!(row.error.contains(words), "{row:?}");
        let kept: Vec<u8> = sqlx::query_scalar(sql).bind(id).fetch_one(&stack.pool).await?;
        assert!(kept == *payload, "{id} is kept as it came");
    }
    host.stop().await
}

#[tokio::test]
async fn messages_without_a_usable_key_are_set_aside() -> Result<()> {
    let mut stack = Stack::new("keys").await?;
    stack.drop_in(&["keys"])?;
    stack.broker.create_stream("KEYS", &["keys.header", "keys.payload"]).await?;
    stack.broker.create_stream("TOLD", &["keys.told"]).await?;
    let host = stack.serve().await?;
    let long = format!(r#"{{"order":{{"id":"{}"}}}}"#, "x".repeat(1_025));
    let bad = [
        ("", "its payload is not JSON"),
        ("{\"order\":", "its payload is not JSON"),
        ("[]", "its payload has nothing at /order/id"),
        (r#"{"order":{}}"#, "its payload has nothing at /order/id"),
        (r#"{"order":{"id":null}}"#, "its payload has null at /order/id"),
        (r#"{"order":{"id":1.5}}"#, "a key is a string or an integer"),
        (r#"{"order":{"id":{"n":1}}}"#, "its payload has an object at /order/id"),
        (r#"{"order":{"id":""}}"#, "is empty"),
        (r#"{"order":{"id":"a\u0000b"}}"#, "contains NUL, which Postgres cannot store"),
        (&long, "has 1025 bytes; 1024 are allowed"),
    ];
    for (n, (payload, _)) in bad.iter().enumerate() {
        let payload = (*payload).to_owned();
        stack.broker.publish_as(&format!("p{n}"), "keys.payload", payload).await?;
    }
    let with = |id: &str, order: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        order.into_iter().for_each(|order| headers.insert("Order", order));
        headers
    };
    for (id, order) in [("none", None), ("blank", Some("")), ("seven", Some("7 \u{e9}"))] {
        stack.broker.publish_with(with(id, order), "keys.header", "").await?;
    }
    let fine = r#"{"order":{"id":42}}"#;
    stack.broker.publish_as("fine", "keys.payload", fine).await?;

    let parked = tables::parked_when(&stack.pool, bad.len() + 2).await?;
    for (n, (payload, words)) in bad.iter().enumerate() {
        let row = row(&parked, &format!("p{n}"))?;
        assert_eq!((row.state.as_str(), row.reason.as_str()), ("dead", "no-key"), "{row:?}");
        assert!(row.error.contains(words) && row.key.is_none(), "{payload}: {row:?}");
    }
    assert_eq!(row(&parked, "none")?.error, "it has no header 'Order'");
    assert!(row(&parked, "blank")?.error.ends_with("is empty"));
    let told = wait_until("the others are handled", async || {
        let told = stack.broker.read("TOLD").await.map_err(|e| format!("{e:#}"))?;
        if told.len() == 2 { Ok(told) } else { Err(format!("{told:?}")) }
    });
    let mut told: Vec<Value> = told.await?.iter().map(|event| event.json()).collect();
    told.sort_by_key(|event| event["id"].to_string());
    let expected = [json!({"id": "fine", "key": "42"}), json!({"id": "seven", "key": "7 \u{e9}"})];
    assert_eq!(told, expected);
    let metric = "tribox_parked_total{handler=\"keys\",reason=\"no-key\"}";
    assert_eq!(host.metric(metric).await?, f64::from(u32::try_from(bad.len())? + 2));
    host.stop().await
}

#[tokio::test]
async fn absurd_headers_ids_and_subjects_harm_nothing() -> Result<()> {
    let settings = vec![("max_control_line".to_owned(), "65536".to_owned())];
    let nats = NatsOptions { settings, ..NatsOptions::default() };
    let mut stack = Stack::with("absurd", StackOptions { nats, ..Default::default() }).await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    let port = stack.nats.port();
    let long = "x".repeat(10_000);
    let many: String = (0..2_000).map(|n| format!("N{n}: {n}\r\n")).collect();
    let ok = br#"{"do":"ok"}"#;
    let count = br#"{"do":"count"}"#;
    let reject = br#"{"do":"reject"}"#;
    let subject = |key: &str| format!("chaos.{key}.do").into_bytes();
    for (key, headers, payload) in [
        ("long-value", format!("Nats-Msg-Id: long-value\r\nX: {long}\r\n"), &ok[..]),
        ("many", format!("Nats-Msg-Id: many\r\n{many}"), ok),
        ("blank", "Nats-Msg-Id: blank\r\nX:\r\nY:   \r\n".to_owned(), ok),
        ("nul", "Nats-Msg-Id: nul\r\nX: a\0b\r\n".to_owned(), ok),
        ("nul-parked", "Nats-Msg-Id: nul-parked\r\nX: a\0b\u{1b}[31m\r\n".to_owned(), reject),
        ("long-id", format!("Nats-Msg-Id: {long}\r\n"), reject),
        ("nul-id", "Nats-Msg-Id: a\0b\r\n".to_owned(), count),
        ("no-id", "Nats-Msg-Id:\r\n".to_owned(), ok),
        ("emoji \u{1f600}", "X: \u{1f600}\r\n".to_owned(), ok),
    ] {
        let key = key.split(' ').next().unwrap_or_default();
        raw::publish(port, &subject(key), headers.as_bytes(), payload).await.context(headers)?;
    }
    // The key is a token of the subject: a long one cannot be a key, another script can.
    raw::publish(port, &subject(&long), b"Nats-Msg-Id: long-key\r\n", ok).await?;
    raw::publish(port, &subject("\u{fc}n\u{ef}"), b"", ok).await?;

    let told = chaos::told_when(&stack.broker, 8).await?;
    let mut keys: Vec<&str> = told.iter().map(|event| event.key.as_str()).collect();
    keys.sort_unstable();
    let fine = ["blank", "emoji", "long-value", "many", "no-id", "nul", "nul-id", "\u{fc}n\u{ef}"];
    assert_eq!(keys, fine);
    let parked = tables::parked_when(&stack.pool, 3).await?;
    assert_eq!(row(&parked, "nul-parked")?.reason, "reject");
    assert_eq!(row(&parked, &long)?.reason, "reject");
    let key = row(&parked, "long-key")?;
    assert_eq!(key.reason, "no-key");
    assert!(key.error.contains("has 10000 bytes; 1024 are allowed"), "{key:?}");
    host.stop().await
}

/// What no client library sends and servers take all the same. Our own client breaks its connection
/// at such a message; see host/src/stream/unreadable.rs.
async fn bytes_that_are_no_message_do_not_stop_the_stream(server: &Path) -> Result<()> {
    let mut stack = on_server("bytes", server).await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    let port = stack.nats.port();
    let payload = b"\xff\x00 as it came";
    let cases: [(&[u8], &[u8], &str); 4] = [
        (b"chaos.latin.do", b"X: caf\xe9\r\n", "its headers are not UTF-8"),
        (b"chaos.line.do", b"this is none\r\n", "a line that is no header: \"this is none\""),
        (b"chaos.name.do", b"na me\xc3\xa9: x\r\n", "a line that is no header: \"na me"),
        (b"chaos.caf\xe9.do", b"", "its subject is not UTF-8"),
    ];
    for (n, (subject, headers, _)) in cases.iter().enumerate() {
        raw::publish(port, subject, headers, payload).await?;
        chaos::order(&stack.broker, &format!("after-{n}"), "fine", &json!({"do": "ok"})).await?;
    }

    let told = chaos::told_when(&stack.broker, cases.len()).await?;
    let order: Vec<&Value> = told.iter().map(|event| &event.body["id"]).collect();
    assert_eq!(order, ["after-0", "after-1", "after-2", "after-3"]);
    let parked = tables::parked_when(&stack.pool, cases.len()).await?;
    for (row, (_, _, words)) in parked.iter().zip(cases) {
        assert_eq!((row.state.as_str(), row.reason.as_str()), ("dead", "unreadable"), "{row:?}");
        assert!(row.error.contains(words), "{row:?}");
    }
    let sql = "SELECT payload FROM tribox.parked";
    let kept: Vec<Vec<u8>> = sqlx::query_scalar(sql).fetch_all(&stack.pool).await?;
    assert!(kept.iter().all(|kept| kept == payload), "{kept:?}");
    host.stop().await
}

/// Without keys the consumer is not set back: the message itself has to be acknowledged.
async fn bytes_that_are_no_message_are_acknowledged(server: &Path) -> Result<()> {
    let mut stack = on_server("ack", server).await?;
    stack.drop_in(&["items"])?;
    stack.broker.create_stream("ITEMS", &["items.create"]).await?;
    stack.broker.create_stream("CREATED", &["items.created"]).await?;
    let host = stack.serve().await?;
    raw::publish(stack.nats.port(), b"items.create", b"X: caf\xe9\r\n", b"{}").await?;
    let parked = tables::parked_when(&stack.pool, 1).await?;
    assert_eq!(parked[0].reason, "unreadable", "{parked:?}");
    stack.broker.publish("items.create", json!({ "name": "lamp" }).to_string()).await?;
    wait_until("the item is made and nothing is in hand", async || {
        let created = stack.broker.count("CREATED").await.map_err(|e| format!("{e:#}"))?;
        let stream = stack.broker.jetstream.get_stream("ITEMS").await.map_err(|e| e.to_string())?;
        let info = stream.consumer_info("tribox-items").await.map_err(|e| e.to_string())?;
        if created == 1 && info.num_ack_pending == 0 { Ok(()) } else { Err(format!("{info:?}")) }
    })
    .await?;
    assert_eq!(tables::parked(&stack.pool).await?, parked);
    host.stop().await
}

async fn on_server(name: &str, server: &Path) -> Result<Stack> {
    let nats = NatsOptions { program: Some(server.to_owned()), ..NatsOptions::default() };
    Stack::with(name, StackOptions { nats, ..Default::default() }).await
}

on_each_nats_server!(
    bytes_that_are_no_message_do_not_stop_the_stream,
    bytes_that_are_no_message_are_acknowledged,
);
