//! A command comes in; a document, an inbox row and an event come of it. Streams and handlers in
//! every combination, also in the wrong order.

use std::path::Path;

use anyhow::Result;
use async_nats::jetstream::consumer::AckPolicy;
use serde_json::json;
use tribox_tests::{Stack, wait_until};

use crate::books::{self, COMMANDS, EVENTS};

on_each_nats_server!(
    a_command_becomes_a_document_and_an_event,
    several_handlers_share_a_stream,
    a_handler_reads_several_streams,
    a_stream_that_is_missing_is_waited_for,
    messages_without_a_key_are_handled,
    a_stream_made_anew_is_read_from_its_start,
    a_stream_that_gets_more_subjects_is_read_for_its_own_alone,
);

async fn a_command_becomes_a_document_and_an_event(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "deliver").await?;
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    stack.broker.publish_as("c-1", "accounts.7.credit", r#"{"amount": 500}"#).await?;

    let events = stack.broker.read_when(EVENTS, 1).await?;
    assert_eq!(events[0].subject, "accounts.events.7.balance-changed");
    let told = json!({"account": "7", "amount": 500, "balance": 500, "sequence": 1});
    assert_eq!(events[0].json(), told);
    let id: String = sqlx::query_scalar("SELECT translate(key::text, '-', '') FROM tribox.inbox")
        .fetch_one(&stack.pool)
        .await?;
    assert_eq!(events[0].id, Some(format!("{id}-0")), "derived from handler and message id");
    let sql = "SELECT count(*) FROM tribox.inbox i JOIN tribox.components c ON c.id = i.component
                WHERE i.key = tribox.inbox_key('accounts', 'c-1') AND c.handler = 'accounts'";
    assert_eq!(stack.number(sql).await?, 1, "the inbox row is found by hand");
    let document = stack.document("accounts", "7").await?;
    assert_eq!(document, Some(json!({"balance": 500, "changes": 1})));
    let view = "SELECT (body->>'balance')::bigint FROM tribox_state.accounts WHERE key = '7'";
    assert_eq!(stack.number(view).await?, 500);

    stack.broker.settled(COMMANDS, "accounts").await?;
    let consumer = stack.broker.consumer(COMMANDS, "tribox-accounts").await?;
    assert_eq!(consumer.config.ack_policy, AckPolicy::Explicit);
    assert_eq!(consumer.config.max_deliver, -1);
    assert_eq!(consumer.ack_floor.stream_sequence, 1);
    let handled = "SELECT handled FROM tribox.consumers WHERE stream = 'COMMANDS'";
    assert_eq!(stack.number(handled).await?, 1);
    stack.until("SELECT max(published) FROM tribox.writers", 1).await?;
    assert_eq!(host.metric("tribox_handled_total{handler=\"accounts\"}").await? as u64, 1);
    host.stop().await
}

async fn several_handlers_share_a_stream(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "handlers").await?;
    stack.drop_in(&["accounts", "orders", "items", "bookings"])?;
    let events = [
        "accounts.events.*.*",
        "orders.events.*.*",
        "bookings.events.*.*",
        "items.created",
        "email.*",
    ];
    stack.broker.create_stream(EVENTS, &events).await?;
    let commands = [
        "accounts.*.credit",
        "accounts.*.debit",
        "accounts.*.enforce-overdrawn",
        "orders.*.add-item",
        "items.create",
        "bookings.*.request",
        "bookings.*.confirm",
    ];
    stack.broker.create_stream(COMMANDS, &commands).await?;
    let host = stack.serve().await?;
    for (id, subject, payload) in [
        ("1", "accounts.7.debit", json!({"amount": 5})),
        ("2", "orders.7.add-item", json!({"item": "tea", "quantity": 2})),
        ("3", "items.create", json!({"id": "7", "name": "lamp"})),
        ("4", "bookings.7.request", json!({"email": "a@example.com", "show": "Lear"})),
        ("5", "bookings.7.confirm", json!({})),
    ] {
        stack.broker.publish_as(id, subject, payload.to_string()).await?;
    }
    let mut told: Vec<String> =
        stack.broker.read_when(EVENTS, 7).await?.into_iter().map(|event| event.subject).collect();
    told.sort();
    let expected = [
        "accounts.events.7.balance-changed",
        "accounts.events.7.overdrawn",
        "bookings.events.7.confirmed",
        "email.send",
        "items.created",
        "orders.events.7.first-item-added",
        "orders.events.7.item-added",
    ];
    assert_eq!(told, expected);
    let views = "SELECT (SELECT count(*) FROM tribox_state.accounts)
                      + (SELECT count(*) FROM tribox_state.orders)
                      + (SELECT count(*) FROM tribox_state.items)
                      + (SELECT count(*) FROM tribox_state.bookings)";
    assert_eq!(stack.number(views).await?, 4, "a document each");
    stack.handled(5).await?;
    host.stop().await
}

async fn a_handler_reads_several_streams(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "streams").await?;
    stack.drop_in(&["accounts"])?;
    let broker = stack.broker.clone();
    broker.create_stream(EVENTS, &["accounts.events.*.*"]).await?;
    broker.create_stream("CREDITS", &["accounts.*.credit"]).await?;
    broker.create_stream("DEADLINES", &["accounts.*.enforce-overdrawn"]).await?;
    // Two streams that share a subscription, and none covers it.
    broker.create_stream("DEBITS-1", &["accounts.1.debit"]).await?;
    broker.create_stream("DEBITS-2", &["accounts.2.debit"]).await?;
    let host = stack.serve().await?;
    for (n, subject) in ["accounts.1.credit", "accounts.1.debit", "accounts.2.debit"]
        .into_iter()
        .cycle()
        .take(30)
        .enumerate()
    {
        broker.publish_as(&format!("c-{n}"), subject, r#"{"amount": 3}"#).await?;
    }
    stack.handled(30).await?;
    let changes = "SELECT sum((body->>'changes')::bigint)::bigint FROM tribox_state.accounts";
    assert_eq!(stack.number(changes).await?, 30);
    let balance = "SELECT (body->>'balance')::bigint FROM tribox_state.accounts WHERE key = '2'";
    assert_eq!(stack.number(balance).await?, -30);
    for stream in ["CREDITS", "DEBITS-1", "DEBITS-2", "DEADLINES"] {
        broker.settled(stream, "accounts").await?;
    }
    host.stop().await
}

async fn a_stream_that_is_missing_is_waited_for(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "missing").await?;
    stack.drop_in(&["orders"])?;
    stack.broker.create_stream(EVENTS, &["orders.events.*.*"]).await?;
    let mut host = stack.spawn()?;
    wait_until("/readyz tells what is missing", async || match host.get("/readyz").await {
        Ok(answer) if answer.status == 503 && answer.body.contains("orders.*.add-item") => {
            Ok(answer.body)
        }
        Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
        Err(e) => Err(format!("{e:#}")),
    })
    .await?;
    assert_eq!(host.get("/healthz").await?.status, 200, "it is well, and not ready");

    stack.broker.create_stream("ORDERS", &["orders.*.add-item"]).await?;
    let add = json!({"item": "tea", "quantity": 1}).to_string();
    stack.broker.publish_as("o-1", "orders.7.add-item", add).await?;
    host.ready().await?;
    assert_eq!(stack.broker.read_when(EVENTS, 2).await?.len(), 2);
    host.stop().await
}

async fn messages_without_a_key_are_handled(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "keyless").await?;
    stack.drop_in(&["items"])?;
    stack.broker.create_stream(COMMANDS, &["items.create"]).await?;
    stack.broker.create_stream(EVENTS, &["items.created"]).await?;
    let host = stack.serve().await?;
    let item = |n: u32| {
        let body = json!({"name": format!("item {n}")}).to_string();
        (format!("item-{n}"), "items.create".to_owned(), body)
    };
    stack.broker.publish_all((0..300).map(item)).await?;
    stack.handled(300).await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox_state.items").await?, 300);
    let events = stack.broker.read_when(EVENTS, 300).await?;
    let mut told: Vec<String> = events.iter().map(|event| event.json()["id"].to_string()).collect();
    told.sort();
    told.dedup();
    assert_eq!((events.len(), told.len()), (300, 300), "each is told once");
    stack.broker.settled(COMMANDS, "items").await?;
    host.stop().await
}

async fn a_stream_made_anew_is_read_from_its_start(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "anew").await?;
    stack.drop_in(&["bookings"])?;
    let broker = stack.broker.clone();
    broker.create_stream(EVENTS, &["bookings.events.*.*", "email.send"]).await?;
    broker.create_stream("CONFIRM", &["bookings.*.confirm"]).await?;
    broker.create_stream("REQUEST", &["bookings.*.request"]).await?;
    let host = stack.serve().await?;
    let request = json!({"email": "a@example.com", "show": "Lear"}).to_string();
    broker.publish("bookings.1.request", request.clone()).await?;
    stack.handled(1).await?;

    // Streams are told apart by the second of their creation.
    let created = async || {
        let stream = broker.jetstream.get_stream("REQUEST").await?;
        anyhow::Ok(stream.cached_info().created.unix_timestamp())
    };
    let before = created().await?;
    wait_until("the stream is made anew in another second", async || {
        let anew = async {
            broker.jetstream.delete_stream("REQUEST").await?;
            broker.create_stream("REQUEST", &["bookings.*.request"]).await?;
            created().await
        };
        match anew.await {
            Ok(now) if now > before => Ok(()),
            Ok(_) => Err("the same second".to_owned()),
            Err(e) => Err(format!("{e:#}")),
        }
    })
    .await?;
    // The same sequence as the first message had, and none has an id of its own.
    broker.publish("bookings.2.request", request).await?;
    stack.handled(2).await?;
    broker.publish("bookings.2.confirm", "{}").await?;
    assert_eq!(broker.read_when(EVENTS, 2).await?.len(), 2);
    host.stop().await
}

/// The filters of a consumer.
async fn filters(stack: &Stack, stream: &str, handler: &str) -> Result<Vec<String>> {
    let config = stack.broker.consumer(stream, &format!("tribox-{handler}")).await?.config;
    let one = Some(config.filter_subject).filter(|filter| !filter.is_empty());
    let mut filters: Vec<String> = config.filter_subjects.into_iter().chain(one).collect();
    filters.sort();
    Ok(filters)
}

/// A consumer is asked for all of a stream where that comes to the same, with keys and without, until it
/// does not any more.
async fn a_stream_that_gets_more_subjects_is_read_for_its_own_alone(nats: &Path) -> Result<()> {
    const ITEMS: &str = "ITEMS";
    let mut stack = Stack::on(nats, "more-subjects").await?;
    stack.drop_in(&["accounts", "items"])?;
    let broker = stack.broker.clone();
    let accounts = ["accounts.*.credit", "accounts.*.debit", "accounts.*.enforce-overdrawn"];
    broker.create_stream(EVENTS, &["accounts.events.*.*", "items.created"]).await?;
    broker.create_stream(COMMANDS, &accounts).await?;
    broker.create_stream(ITEMS, &["items.create"]).await?;
    let item = |n: u64| json!({"id": n.to_string(), "name": "lamp"}).to_string();
    let host = stack.serve().await?;
    books::publish(&stack, 0..100).await?;
    broker.publish_as("i-1", "items.create", item(1)).await?;
    stack.handled(101).await?;
    assert_eq!(filters(&stack, COMMANDS, "accounts").await?, [""; 0]);
    assert_eq!(filters(&stack, ITEMS, "items").await?, [""; 0]);

    for (name, own) in [(COMMANDS, &accounts[..]), (ITEMS, &["items.create"])] {
        let stream = broker.jetstream.get_stream(name).await?;
        let mut config = stream.cached_info().config.clone();
        config.subjects = own.iter().map(|&subject| subject.to_owned()).collect();
        config.subjects.push(format!("other.{name}.*"));
        broker.jetstream.update_stream(config).await?;
    }
    for n in 100..200 {
        if n % 20 == 0 {
            for name in [COMMANDS, ITEMS] {
                let id = format!("other-{name}-{n}");
                broker.publish_as(&id, &format!("other.{name}.{n}"), "{}").await?;
            }
        }
        books::publish(&stack, n..n + 1).await?;
    }
    broker.publish_as("i-2", "items.create", item(2)).await?;
    stack.handled(202).await?;
    broker.settled(COMMANDS, "accounts").await?;
    broker.settled(ITEMS, "items").await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 0);
    assert_eq!(filters(&stack, COMMANDS, "accounts").await?, accounts);
    assert_eq!(filters(&stack, ITEMS, "items").await?, ["items.create"]);

    // It stays like that, and nothing looks lost.
    host.stop().await?;
    let host = stack.serve().await?;
    books::publish(&stack, 200..210).await?;
    stack.handled(212).await?;
    assert_eq!(filters(&stack, COMMANDS, "accounts").await?, accounts);
    assert!(!host.log().contains("tribox rewind"), "{}", host.log());
    host.stop().await
}
