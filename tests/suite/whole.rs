//! All effects of a message are committed, or none, together with the fact that it was handled; and
//! the result of many at once is as if they were handled one at a time.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::{Parked, Stack};

use crate::books::{self, COMMANDS, EVENTS};

async fn chaos(name: &str) -> Result<Stack> {
    let stack = Stack::new(name).await?;
    stack.drop_in(&["chaos"])?;
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    Ok(stack)
}

#[tokio::test]
async fn the_rows_of_a_message_are_one_transaction() -> Result<()> {
    let mut stack = Stack::new("one").await?;
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    // One document written, an event and a warning sent, a deadline scheduled.
    stack.broker.publish_as("d-1", "accounts.7.debit", r#"{"amount": 5}"#).await?;
    stack.handled(1).await?;
    let rows = "SELECT (SELECT count(*) FROM tribox.documents)
                     + (SELECT count(*) FROM tribox.outbox)
                     + (SELECT count(*) FROM tribox.scheduled)";
    assert_eq!(stack.number(rows).await?, 1 + 2 + 1);
    let transactions = "SELECT count(DISTINCT x) FROM (
        SELECT xmin::text AS x FROM tribox.inbox
        UNION ALL SELECT xmin::text FROM tribox.documents
        UNION ALL SELECT xmin::text FROM tribox.outbox
        UNION ALL SELECT xmin::text FROM tribox.scheduled
        UNION ALL SELECT xmin::text FROM tribox.consumers) AS rows";
    assert_eq!(stack.number(transactions).await?, 1);
    host.stop().await
}

/// While the lane has its own copy of it: the commit notices, and the turn is run again.
#[tokio::test]
async fn a_document_that_is_changed_by_hand_is_seen() -> Result<()> {
    let mut stack = Stack::new("by-hand").await?;
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    stack.broker.publish("accounts.7.credit", r#"{"amount": 5}"#).await?;
    stack.handled(1).await?;
    let by_hand = "UPDATE tribox.documents SET body = jsonb_set(body, '{balance}', '1000')";
    assert_eq!(sqlx::query(by_hand).execute(&stack.pool).await?.rows_affected(), 1);
    stack.broker.publish("accounts.7.credit", r#"{"amount": 5}"#).await?;
    stack.handled(2).await?;
    let document = stack.document("accounts", "7").await?;
    assert_eq!(document, Some(json!({"balance": 1005, "changes": 2})));
    assert_eq!(stack.number("SELECT version FROM tribox.documents").await?, 3);
    host.stop().await
}

#[tokio::test]
async fn a_message_that_fails_leaves_nothing() -> Result<()> {
    let mut stack = chaos("nothing").await?;
    let host = stack.serve().await?;
    let verbs = ["reject", "panic", "nul", "invalid-json", "write-outside", "publish-outside"];
    for verb in verbs {
        let body = json!({"do": verb}).to_string();
        stack.broker.publish_as(verb, "chaos.k.do", body).await?;
    }
    stack.handled(6).await?;
    let left = "SELECT (SELECT count(*) FROM tribox.documents WHERE body IS NOT NULL)
                     + (SELECT count(*) FROM tribox.outbox WHERE id NOT LIKE 'dead-%')
                     + (SELECT count(*) FROM tribox.scheduled)";
    assert_eq!(stack.number(left).await?, 0);
    let dead: Vec<(String, String)> =
        stack.parked().await?.into_iter().map(|p| (p.message_id, p.state)).collect();
    assert_eq!(dead, verbs.map(|verb| (verb.to_owned(), "dead".to_owned())));
    host.stop().await
}

/// What Postgres refuses, one message among hundreds: a team's own index or constraint.
async fn refused_by(name: &str, by: &'static str, says: &str) -> Result<()> {
    let mut stack = chaos(name).await?;
    sqlx::raw_sql(by).execute(&stack.pool).await?;
    // Their document holds the message's id, and this one is no number.
    let message = |n: u32| {
        let (id, key) = match n {
            250 => ("bad".to_owned(), "bad".to_owned()),
            n => (n.to_string(), format!("k{}", n % 40)),
        };
        (id, format!("chaos.{key}.do"), json!({"do": "ok"}).to_string())
    };
    stack.broker.publish_all((0..400).map(message)).await?;
    let host = stack.serve().await?;
    stack.handled(400).await?;
    let events = stack.broker.read_when(EVENTS, 399).await?;
    assert_eq!(events.len(), 399);
    let parked = stack.parked().await?;
    let [Parked { message_id, state, reason, error, .. }] = &parked[..] else {
        panic!("{parked:?}");
    };
    assert_eq!((&**message_id, &**state, &**reason), ("bad", "dead", "refused"));
    assert!(error.contains(says), "{error}");
    let bad = "SELECT count(*) FROM tribox.outbox
                WHERE id LIKE translate(tribox.inbox_key('chaos', 'bad')::text, '-', '') || '-%'";
    assert_eq!(stack.number(bad).await?, 0);
    assert_eq!(stack.document("chaos", "bad").await?, None);
    stack.broker.publish_as("400", "chaos.bad.do", r#"{"do": "ok"}"#).await?;
    stack.handled(401).await?;
    assert_eq!(stack.document("chaos", "bad").await?, Some(json!({"id": "400"})));
    host.stop().await
}

#[tokio::test]
async fn a_message_that_an_index_refuses_fails_alone() -> Result<()> {
    let index = "CREATE INDEX ON tribox.documents (((body->>'id')::bigint))
                  WHERE collection = 'chaos'";
    refused_by("index", index, "invalid input syntax").await
}

#[tokio::test]
async fn a_message_that_a_constraint_refuses_fails_alone() -> Result<()> {
    let check = "ALTER TABLE tribox.documents ADD CONSTRAINT not_bad CHECK (body->>'id' <> 'bad')";
    refused_by("constraint", check, "not_bad").await
}

#[tokio::test]
async fn a_message_that_a_unique_index_refuses_fails_alone() -> Result<()> {
    let unique = "CREATE UNIQUE INDEX only_one ON tribox.documents ((body->>'id'))
                   WHERE body->>'id' = 'bad';
                  INSERT INTO tribox.documents (collection, key, body, version)
                  VALUES ('other', 'x', '{\"id\": \"bad\"}', 1)";
    refused_by("unique", unique, "only_one").await
}

/// Four lanes write the same baskets and products, in one turn each or in many. Every basket has the
/// price that its product has in the end: either the change of price found the basket, or the basket
/// found the new price.
#[tokio::test]
async fn lanes_that_meet_in_documents_are_serializable() -> Result<()> {
    const BASKETS: u64 = 30;
    const PRODUCTS: u64 = 3;
    const CHANGES: u64 = 12;
    let mut stack = Stack::new("serializable").await?;
    stack.drop_in(&["baskets"])?;
    stack.config.set("handlers.baskets.lanes", 4).set("handlers.baskets.turn", 8);
    stack.broker.create_stream(EVENTS, &["baskets.events.*.*"]).await?;
    let commands = ["baskets.*.add", "products.*.price-changed", "products.*.reprice"];
    stack.broker.create_stream(COMMANDS, &commands).await?;
    let mut messages = Vec::new();
    for change in 1..=CHANGES {
        for basket in 0..BASKETS {
            let product = (basket + change) % PRODUCTS;
            let add = json!({"product": format!("p{product}"), "price": 1, "quantity": 1});
            messages.push((format!("baskets.b{basket}.add"), add));
        }
        for product in 0..PRODUCTS {
            let price = json!({"price": 100 * change + product, "version": change});
            messages.push((format!("products.p{product}.price-changed"), price));
        }
    }
    let count = i64::try_from(messages.len())?;
    let numbered = messages.into_iter().enumerate();
    let numbered = numbered.map(|(n, (subject, body))| (n.to_string(), subject, body.to_string()));
    stack.broker.publish_all(numbered).await?;
    let host = stack.serve().await?;
    stack.handled(count).await?;

    for basket in 0..BASKETS {
        let document = stack.document("baskets", &format!("b{basket}")).await?;
        let lines = document.context("a basket")?["lines"].clone();
        let lines = lines.as_object().context("lines")?.clone();
        let quantity: u64 = lines.values().filter_map(|line| line["quantity"].as_u64()).sum();
        assert_eq!(quantity, CHANGES, "no item is lost in basket {basket}");
        for (product, line) in lines {
            let now = stack.document("products", &product).await?.context("a product")?;
            assert_eq!(line["price"], now["price"], "{product} in basket {basket}");
        }
    }
    audit_alerts(&stack).await?;
    let conflicts = host.metric("tribox_conflicts_total{handler=\"baskets\"}").await?;
    println!("turns that were run again: {conflicts}");
    host.stop().await
}

/// A basket's alerts for a product are a chain: each starts from the price that the one before led
/// to. They come from several keys, so their order in the stream is not theirs; prices only rise.
async fn audit_alerts(stack: &Stack) -> Result<()> {
    let sent = stack.number("SELECT count(*) FROM tribox.outbox").await?;
    let mut alerts: Vec<Value> = Vec::new();
    for event in stack.broker.read_when(EVENTS, u64::try_from(sent)?).await? {
        alerts.push(event.json());
    }
    let place = |alert: &Value| (alert["basket"].to_string(), alert["product"].to_string());
    alerts.sort_by_key(|alert| (place(alert), alert["new"].as_u64()));
    for pair in alerts.windows(2) {
        if place(&pair[0]) == place(&pair[1]) {
            assert_eq!(pair[0]["new"], pair[1]["old"], "{} and {}", pair[0], pair[1]);
        }
    }
    Ok(())
}
