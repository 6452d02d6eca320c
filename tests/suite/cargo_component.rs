//! Guests build by `cargo component` as well as by plain cargo, and both components of a guest do
//! the same; and so does a new project, as `tribox new` makes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tribox::model::{Document, Documents, Limits, Message, Unreadable, Verdict};
use tribox::sandbox::{Guest, Sandbox, SandboxConfig};
use tribox_tests::{programs, tool};

const REQUIRE: &str = "TRIBOX_REQUIRE_CARGO_COMPONENT";

/// Guests without chance in them: what they do is the same for the same message and documents.
const GUESTS: [&str; 2] = ["accounts", "items"];

/// The program, or a word about its absence.
///
/// # Errors
/// It is not there, and has to be.
fn cargo_component() -> Result<Option<PathBuf>> {
    let found = find();
    if found.is_none() {
        if std::env::var_os(REQUIRE).is_some_and(|value| value == "1") {
            bail!("cargo component is not installed; `make test-cargo-component` installs it");
        }
        println!("skipped: cargo component is not installed; see `make test-cargo-component`");
    }
    Ok(found)
}

/// The program, where there is one: of this repository, or installed for everybody.
fn find() -> Option<PathBuf> {
    let own = programs::repository().join(".tools/bin/cargo-component");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|place| place.join("cargo-component"));
    std::iter::once(own).chain(installed).find(|program| program.is_file())
}

/// Builds in a directory, into one of the suite's own; returns where the components are.
fn build(program: &Path, place: &Path, more: &[&str]) -> Result<PathBuf> {
    let target = programs::repository().join("target/cargo-component");
    let mut command = Command::new(program);
    // By the name that cargo itself would call it.
    command.args(["component", "build", "--release"]).args(more);
    command.env("CARGO_TARGET_DIR", &target).current_dir(place);
    let output = command.output().context("failed to run cargo component")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo component failed; it needs `rustup target add wasm32-wasip1`:\n{said}"
    );
    Ok(target.join("wasm32-wasip1/release"))
}

#[derive(Default)]
struct Memory(BTreeMap<(String, String), String>);

impl Documents for Memory {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable> {
        Ok(self.0.get(&(collection.to_owned(), key.to_owned())).cloned())
    }

    fn list(
        &mut self,
        _collection: &str,
        _prefix: &str,
        _after: Option<&str>,
        _limit: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        Err(Unreadable("these guests list nothing".to_owned()))
    }
}

fn message(n: u64, subject: &str, key: Option<&str>, payload: &Value) -> Message {
    Message {
        id: format!("m-{n}"),
        subject: subject.to_owned(),
        key: key.map(str::to_owned),
        headers: Vec::new(),
        payload: payload.to_string().into(),
        stored_at: 1_700_000_000_000 + n,
    }
}

/// Messages that take each guest through what it does, and what it refuses.
fn messages(guest: &str) -> Vec<Message> {
    let items = [
        json!({"id": "1", "name": "lamp"}),
        json!({"id": "1", "name": "lamp again"}),
        json!({"name": "under the id of its message"}),
        json!({"nothing": true}),
    ];
    let accounts = [
        ("credit", json!({"amount": 250})),
        ("debit", json!({"amount": 200})),
        ("debit", json!({"amount": 100})),
        ("enforce-overdrawn", json!({"since": 1_700_000_000_002_u64})),
        ("credit", json!({"amount": 500})),
        ("credit", json!({"amount": i64::MAX})),
        ("debit", json!({"amount": -1})),
        ("debit", json!("all of it")),
    ];
    match guest {
        "items" => (0..).zip(&items).map(|(n, p)| message(n, "items.create", None, p)).collect(),
        _ => (0..)
            .zip(&accounts)
            .map(|(n, (verb, p))| message(n, &format!("accounts.7.{verb}"), Some("7"), p))
            .collect(),
    }
}

/// What a guest makes of its messages, each seeing what the ones before it wrote.
fn verdicts(guest: &Guest, messages: &[Message]) -> Result<Vec<Verdict>> {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let mut verdicts = Vec::new();
    for message in messages {
        let documents: Arc<Mutex<dyn Documents>> = Arc::clone(&memory) as _;
        let verdict = guest.call(message, documents).verdict;
        let verdict = verdict.map_err(|unreadable| anyhow::anyhow!(unreadable.0))?;
        if let Verdict::Effects(effects) = &verdict {
            let mut memory = memory.lock().unwrap();
            for mutation in &effects.mutations {
                let (collection, key) = mutation.target();
                let id = (collection.to_owned(), key.to_owned());
                match mutation {
                    tribox::model::Mutation::Put(document) => {
                        memory.0.insert(id, document.body.clone());
                    }
                    tribox::model::Mutation::Delete { .. } => {
                        memory.0.remove(&id);
                    }
                }
            }
        }
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

#[test]
fn cargo_component_builds_the_same_handlers() -> Result<()> {
    let Some(program) = cargo_component()? else { return Ok(()) };
    let chosen: Vec<&str> = GUESTS.iter().flat_map(|guest| ["-p", guest]).collect();
    let built = build(&program, programs::repository(), &chosen)?;
    let sandbox = Sandbox::new(SandboxConfig::default()).map_err(|e| anyhow::anyhow!("{e}"))?;
    for name in GUESTS {
        let load = |file: &Path| -> Result<Guest> {
            let wasm = std::fs::read(file).with_context(|| file.display().to_string())?;
            Ok(sandbox.load(name, &wasm)?.configured(BTreeMap::new(), Limits::default()))
        };
        let by_component = load(&built.join(name).with_extension("wasm"))?;
        let by_cargo = load(&programs::guest(name)?)?;
        assert_ne!(by_component.digest(), by_cargo.digest(), "{name}: two ways of building");
        assert_eq!(by_component.description(), by_cargo.description());
        let messages = messages(name);
        let (one, other) = (verdicts(&by_component, &messages)?, verdicts(&by_cargo, &messages)?);
        let effects = one.iter().filter(|verdict| matches!(verdict, Verdict::Effects(_))).count();
        assert!(effects > 1 && effects < one.len(), "{name}: {one:?}");
        assert_eq!(one, other, "{name}: the same effects, and the same words of refusal");
    }
    Ok(())
}

/// As the page of the project says, with the crates that the suite is built with.
#[test]
fn cargo_component_builds_a_new_project() -> Result<()> {
    let Some(program) = cargo_component()? else { return Ok(()) };
    let place = tempfile::tempdir()?;
    tool::tribox(place.path(), None, &["new", "my-shop"])?.ok()?;
    let project = place.path().join("my-shop");
    std::fs::copy(programs::repository().join("Cargo.lock"), project.join("Cargo.lock"))?;
    let built = build(&program, &project, &["--offline"])?.join("my_shop.wasm");
    let built = built.display().to_string();
    let checked = tool::tribox(&project, None, &["check", &built, "--json"])?.json()?;
    assert_eq!(checked["handler"], "my-shop");
    let said = tool::tribox(&project, None, &["test", "--component", &built])?.ok()?;
    assert!(said.contains("2 cases: 2 as expected"), "{said}");
    Ok(())
}
