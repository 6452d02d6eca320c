//! `tribox pause` and `resume`, as they stand in the tables: a pause is seen, is no message, and its
//! end wakes what waited.

use anyhow::Result;
use serde_json::json;
use tribox_tests::tool::{Desk, Row};

async fn desk(name: &str) -> Result<Desk> {
    let desk = Desk::new(name).await?;
    let builds = "INSERT INTO tribox.components (handler, version, digest)
                  VALUES ('chaos', '1', 'd1'), ('items', '1', 'd2')";
    desk.execute(builds).await?;
    Ok(desk)
}

#[tokio::test]
async fn a_handler_is_paused_and_resumed() -> Result<()> {
    let desk = desk("pause_handler").await?;
    for command in ["pause", "resume"] {
        let why = desk.run(&[command, "chaso"])?.refused()?;
        assert!(why.contains("'chaso'") && why.contains("chaos, items"), "{why}");
    }
    assert_eq!(desk.json(&["resume", "chaos"])?["resumed"], false);
    let said = desk.run(&["pause", "chaos"])?.ok()?;
    assert!(said.contains("paused handler chaos"), "{said}");
    let row = "SELECT count(*) FROM tribox.paused WHERE handler = 'chaos' AND paused_by LIKE 'somebody@_%'";
    assert_eq!(desk.number(row).await?, 1);
    assert!(desk.run(&["pause", "chaos"])?.ok()?.contains("is paused already"));
    assert_eq!(desk.json(&["pause", "chaos"])?["paused"], false);
    let status = desk.json(&["status"])?;
    let by = status["handlers"][0]["paused_by"].as_str().unwrap_or_default();
    assert!(by.starts_with("somebody@"), "{status:#}");
    assert_eq!(status["handlers"][1]["paused_by"], json!(null));
    let text = desk.run(&["status"])?.ok()?;
    assert!(text.contains("paused: handler chaos, by somebody@"), "{text}");
    assert_eq!(desk.json(&["resume", "chaos"])?["resumed"], true);
    assert_eq!(desk.number("SELECT count(*) FROM tribox.paused").await?, 0);
    assert!(desk.run(&["resume", "chaos"])?.ok()?.contains("is not paused"));
    Ok(())
}

#[tokio::test]
async fn a_key_is_paused_by_a_row_that_is_its_first() -> Result<()> {
    let desk = desk("pause_key").await?;
    let park = async |key, state, id| {
        desk.park(&Row { handler: "chaos", key: Some(key), state, reason: "retry", id }).await
    };
    park("7", "waiting", "m-1").await?;
    park("7", "waiting", "m-2").await?;
    park("8", "retrying", "m-3").await?;
    park("8", "waiting", "m-4").await?;
    assert!(desk.run(&["pause", "chaos", "--key", "7"])?.ok()?.contains("paused key '7'"));
    assert!(desk.run(&["pause", "chaos", "--key", "7"])?.ok()?.contains("is paused already"));
    assert_eq!(desk.json(&["pause", "items", "--key", "7"])?["paused"], true, "another handler's");
    assert_eq!(desk.json(&["pause", "chaos", "--key", "8"])?["paused"], true);
    let first = "SELECT count(*) FROM (SELECT DISTINCT ON (handler, key) * FROM tribox.parked
                                        WHERE state <> 'dead' ORDER BY handler, key, id) AS p
                  WHERE p.id < 0 AND p.state = 'holding' AND p.reason = 'paused'
                    AND p.error LIKE 'paused by somebody@_%' AND p.next_attempt_at IS NULL";
    assert_eq!(desk.number(first).await?, 3);

    let list = desk.json(&["parked", "list"])?;
    assert_eq!(list["messages"].as_array().map(Vec::len), Some(4), "a pause is no message");
    let status = desk.json(&["status"])?;
    let keys = status["paused_keys"].as_array().cloned().unwrap_or_default();
    let keys: Vec<_> = keys.iter().map(|k| (&k["handler"], &k["key"], &k["behind"])).collect();
    let (chaos, items) = (json!("chaos"), json!("items"));
    let expected = [
        (&chaos, &json!("7"), &json!(2)),
        (&chaos, &json!("8"), &json!(2)),
        (&items, &json!("7"), &json!(0)),
    ];
    assert_eq!(keys, expected);
    assert_eq!(status["handlers"][0]["holding"], 0);
    assert!(desk.run(&["parked", "show", "1"])?.ok()?.contains("its key is paused"));

    assert!(desk.run(&["resume", "chaos", "--key", "7"])?.ok()?.contains("resumed key '7'"));
    assert_eq!(desk.json(&["resume", "chaos", "--key", "7"])?["resumed"], false);
    assert_eq!(desk.json(&["resume", "chaos", "--key", "8"])?["resumed"], true);
    let states = desk.states().await?;
    let states: Vec<_> = states.iter().map(|(id, state, _, due)| (&**id, &**state, *due)).collect();
    let expected = [
        ("m-1", "retrying", true),
        ("m-2", "waiting", false),
        // It was not waiting for the pause: its own time has not come.
        ("m-3", "retrying", false),
        ("m-4", "waiting", false),
    ];
    assert_eq!(states, expected);
    assert_eq!(desk.number("SELECT count(*) FROM tribox.parked WHERE id < 0").await?, 1);
    assert!(desk.run(&["pause", "chaos", "--key", ""])?.refused()?.contains("1 to 1024 bytes"));
    Ok(())
}
