//! A middleware around a handler: guests/actor with guests/accounts inside, composed as `wac plug` does
//! it. To the host it is a handler like any other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::{Stack, programs, tool};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, plug};

/// What `wac plug OUTER --plug INNER` writes.
fn composed(outer: &Path, inner: &Path, place: &Path) -> Result<PathBuf> {
    let mut graph = CompositionGraph::new();
    let mut register = |name: &str, file: &Path| -> Result<_> {
        let wasm = std::fs::read(file).with_context(|| file.display().to_string())?;
        let package = Package::from_bytes(name, None, wasm, graph.types_mut())?;
        Ok(graph.register_package(package)?)
    };
    let (inner, outer) = (register("inner", inner)?, register("outer", outer)?);
    plug(&mut graph, vec![inner], outer)?;
    let file = place.join("composed.wasm");
    std::fs::write(&file, graph.encode(EncodeOptions::default())?)?;
    Ok(file)
}

fn with_actor(place: &Path) -> Result<PathBuf> {
    composed(&programs::guest("actor")?, &programs::guest("accounts")?, place)
}

#[test]
fn a_wrapped_handler_is_the_handler_and_what_is_around_it() -> Result<()> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    let file = with_actor(place)?.display().to_string();
    let accounts = programs::guest("accounts")?.display().to_string();
    let checked = tool::tribox(place, None, &["check", &file, "--against", &accounts, "--json"])?;
    let checked = checked.json()?;
    assert_eq!(checked["handler"], "accounts");
    let differences = checked["against"]["differences"].as_array().context("a list")?;
    assert!(differences.iter().all(|one| one["what"] == "import"), "{differences:?}");

    let invoke = |headers: Value| -> Result<Value> {
        let message = json!({
            "id": "m-1", "subject": "accounts.7.debit", "headers": headers,
            "payload": {"amount": 20}, "stored_at": 1_767_225_600_000_u64,
        });
        std::fs::write(place.join("m.json"), message.to_string())?;
        tool::tribox(place, None, &["invoke", &file, "--message", "m.json", "--json"])?.json()
    };
    let refused = invoke(json!([]))?;
    assert_eq!(refused["verdict"], "reject");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("who asks?")), "{refused}");
    let done = invoke(json!([["Actor", "ann"]]))?;
    assert_eq!(done["verdict"], "effects", "{done:#}");
    assert_eq!(done["documents"][0]["after"]["balance"], -20);
    let sent = done["messages"].as_array().context("messages")?;
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|message| message["headers"] == json!([["Actor", "ann"]])), "{sent:?}");
    assert_eq!(done["output"][0]["line"], "ann asks for accounts.7.debit");
    Ok(())
}

#[tokio::test]
async fn a_wrapped_handler_takes_over_from_the_bare_one() -> Result<()> {
    let mut stack = Stack::new("middleware").await?;
    stack.broker.create_stream("ACCOUNTS", &["accounts.>"]).await?;
    stack.drop_in(&["accounts"])?;
    let host = stack.serve().await?;
    let debit = |amount: i64| json!({"amount": amount}).to_string();
    stack.broker.publish_as("m-1", "accounts.7.credit", debit(50)).await?;
    stack.handled(1).await?;

    // The same name: it goes on where the bare one was, with the same documents.
    let wrapped = with_actor(stack.directory())?;
    stack.drop_in_file(&wrapped, "accounts")?;
    stack.until("SELECT count(*) FROM tribox.components", 2).await?;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Actor", "ann");
    stack.broker.publish_with(headers, "accounts.7.debit", debit(20)).await?;
    stack.broker.publish_as("m-3", "accounts.7.debit", debit(20)).await?;
    stack.handled(3).await?;
    let account = stack.document("accounts", "7").await?.context("a document")?;
    assert_eq!((&account["balance"], &account["changes"]), (&json!(30), &json!(2)));
    let parked = stack.parked().await?;
    assert_eq!(parked.len(), 1);
    assert!(parked[0].error.contains("has no header Actor"), "{parked:?}");
    let told = "SELECT count(*) FROM tribox.outbox WHERE headers LIKE '%Actor: ann%'";
    assert_eq!(stack.number(told).await?, 1, "the change of the balance");
    host.stop().await
}
