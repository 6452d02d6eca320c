//! Handlers in Python, JavaScript and TypeScript: held to the recorded cases of the same handlers in Rust, and run
//! by the host like any other. `make test-languages` requires them; elsewhere they are skipped, aloud,
//! where their toolchains could not be had (scripts/languages.sh).

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tribox_tests::{Stack, programs, tool};

const LANGUAGES: [&str; 3] = ["python", "javascript", "typescript"];
const REQUIRE: &str = "TRIBOX_REQUIRE_LANGUAGES";

/// A guest's component, where there is one.
fn component(language: &str, guest: &str) -> Result<Option<PathBuf>> {
    let file = programs::repository().join(format!("target/guests/{language}-{guest}.wasm"));
    if file.is_file() {
        return Ok(Some(file));
    }
    if std::env::var_os(REQUIRE).is_some_and(|value| value == "1") {
        bail!("{} is not there; `make test-languages` builds it", file.display());
    }
    println!("skipped: {language}-{guest} is not built; see `make test-languages`");
    Ok(None)
}

#[test]
fn they_do_what_was_recorded_of_the_rust_handlers_byte_for_byte() -> Result<()> {
    for guest in ["items", "accounts"] {
        let cases = programs::repository().join(format!("guests/{guest}/cases"));
        let cases = cases.display().to_string();
        for language in LANGUAGES {
            let Some(component) = component(language, guest)? else { continue };
            let component = component.display().to_string();
            let run = ["test", &cases, "--component", &component, "--exact"];
            let ran = tool::tribox(&programs::repository().join("target"), None, &run)?;
            assert_eq!(ran.code, Some(0), "{language}: {}\n{}", ran.out, ran.err);
            assert!(ran.out.contains(" 0 not"), "{language}: {}", ran.out);
        }
    }
    Ok(())
}

/// One could be dropped in for the other: nothing is handled twice, and no subscription changes.
#[test]
fn they_describe_themselves_as_the_rust_handlers_do() -> Result<()> {
    for guest in ["items", "accounts"] {
        for language in LANGUAGES {
            let Some(component) = component(language, guest)? else { continue };
            let (component, rust) = (component.display().to_string(), programs::guest(guest)?);
            let rust = rust.display().to_string();
            let run = ["check", &component, "--against", &rust, "--json"];
            let checked = tool::tribox(&programs::repository().join("target"), None, &run)?;
            let checked = checked.json()?;
            let differences = checked["against"]["differences"].as_array().context("a list")?;
            // What the languages themselves import of WASI differs.
            let others: Vec<_> = differences.iter().filter(|one| one["what"] != "import").collect();
            assert!(others.is_empty(), "{language}: {others:?}");
        }
    }
    Ok(())
}

/// The way of their messages is that of any other handler's: Postgres, NATS, order, a rejected message.
#[tokio::test]
async fn a_host_runs_them_like_any_other() -> Result<()> {
    for language in LANGUAGES {
        let Some(component) = component(language, "accounts")? else { continue };
        let mut stack = Stack::new(&format!("language_{language}")).await?;
        stack.broker.create_stream("ACCOUNTS", &["accounts.>"]).await?;
        // To compile a component in Python takes longer than a host may take to start.
        let file = component.display().to_string();
        tool::tribox(stack.directory(), None, &["check", &file])?.ok()?;
        stack.config.set("plugins.cache", tool::cache().display().to_string());
        stack.drop_in_file(&component, "accounts")?;
        let host = stack.serve().await?;
        for (id, verb, payload) in [
            ("m-1", "credit", json!({"amount": 5})),
            ("m-2", "debit", json!({"amount": 7})),
            ("m-3", "debit", json!("all of it")),
            ("m-4", "credit", json!({"amount": 1})),
        ] {
            let subject = format!("accounts.7.{verb}");
            stack.broker.publish_as(id, &subject, payload.to_string()).await?;
        }
        stack.handled(4).await?;
        let account = stack.document("accounts", "7").await?.context("a document")?;
        assert_eq!((&account["balance"], &account["changes"]), (&json!(-1), &json!(3)));
        let told =
            stack.number("SELECT count(*) FROM tribox.outbox WHERE subject LIKE 'accounts.%'");
        assert_eq!(told.await?, 4, "{language}: three changes of the balance, and one overdraft");
        assert_eq!(stack.number("SELECT count(*) FROM tribox.scheduled").await?, 1);
        let parked = stack.parked().await?;
        assert_eq!(parked.len(), 1, "{language}: {parked:?}");
        assert_eq!((parked[0].message_id.as_str(), parked[0].state.as_str()), ("m-3", "dead"));
        host.stop().await.with_context(|| language.to_owned())?;
    }
    Ok(())
}
