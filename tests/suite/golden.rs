//! `tribox test` and `tribox invoke --record`: recorded cases, without servers. The cases of the example
//! guests are run here, against each component that claims to be the handler.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::tool::{self, Ran};
use tribox_tests::{programs, wait_until};

/// Compiled components stay in the test's own directory.
const CONFIG: &str = "[plugins]\ncache = \"cache\"\n";

/// A directory with a config, in which commands are run.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Result<Place> {
        let place = Place(tempfile::tempdir()?);
        place.write("tribox.toml", CONFIG)?;
        std::fs::create_dir(place.path().join("plugins"))?;
        Ok(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn run(&self, arguments: &[&str]) -> Result<Ran> {
        tool::tribox(self.path(), None, arguments)
    }

    /// A debit of 30 that is recorded against an account of 120.
    fn record(&self, to: &str, more: &[&str]) -> Result<Ran> {
        let message = json!({
            "id": "m-1", "subject": "accounts.7.debit", "payload": {"amount": 30}, "stored_at": 1,
        });
        self.write("m.json", &message.to_string())?;
        let account = json!({"balance": 120, "changes": 1});
        let account = json!([{"collection": "accounts", "key": "7", "body": account}]);
        self.write("d.json", &account.to_string())?;
        let guest = text(&programs::guest("accounts")?);
        let invoke = ["invoke", &guest, "--message", "m.json", "--documents", "d.json"];
        self.run(&[&invoke[..], &["--record", to], more].concat())
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn case(place: &Place, name: &str) -> Result<Value> {
    let text = std::fs::read_to_string(place.path().join(name)).context(name.to_owned())?;
    Ok(serde_json::from_str(&text)?)
}

/// The guests that have cases.
fn guests_with_cases() -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(programs::repository().join("guests"))? {
        let cases = entry?.path().join("cases");
        let name = cases.parent().and_then(Path::file_name).context("a name")?;
        if cases.is_dir() {
            found.push((name.to_string_lossy().into_owned(), cases));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn the_examples_do_what_was_recorded() -> Result<()> {
    let place = Place::new()?;
    let guests = guests_with_cases()?;
    assert!(guests.len() >= 5, "{guests:?}");
    for (guest, cases) in guests {
        let component = text(&programs::guest(&guest)?);
        let ran = place.run(&["test", &text(&cases), "--component", &component, "--exact"])?;
        assert_eq!(ran.code, Some(0), "{guest}: {}\n{}", ran.out, ran.err);
        assert!(ran.out.contains(" 0 not"), "{ran:?}");
    }
    Ok(())
}

#[test]
fn a_recorded_case_passes_and_its_like_does_not() -> Result<()> {
    let place = Place::new()?;
    let said = place.record("cases", &["--set", "threshold=100"])?.ok()?;
    assert!(said.contains("recorded cases/m-1.json"), "{said}");
    let recorded = case(&place, "cases/m-1.json")?;
    assert_eq!(recorded["handler"], "accounts");
    assert_eq!(recorded["settings"], json!({"threshold": "100"}));
    assert_eq!(recorded["expect"]["documents"][0]["body"], json!({"balance": 90, "changes": 2}));
    assert_eq!(recorded["expect"]["messages"].as_array().map(Vec::len), Some(2));

    // The component is the one in the plugin directory that has the handler's name.
    std::fs::copy(programs::guest("accounts")?, place.path().join("plugins/any.wasm"))?;
    let said = place.run(&["test"])?.ok()?;
    assert!(said.contains("ok      cases/m-1.json\n1 case: 1 as expected, 0 not"), "{said}");

    let mut other = recorded.clone();
    other["message"]["payload"]["amount"] = json!(31);
    place.write("cases/other.json", &other.to_string())?;
    let ran = place.run(&["test"])?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for words in [
        "ok      cases/m-1.json",
        "FAILED  cases/other.json\n  - expected, + what plugins/any.wasm (",
        "-     \"balance\": 90,\n",
        "+     \"balance\": 89,\n",
        "2 cases: 1 as expected, 1 not",
    ] {
        assert!(ran.out.contains(words), "{words}\n---\n{}", ran.out);
    }
    let report = place.run(&["test", "cases/other.json", "--json"])?;
    assert_eq!(report.code, Some(1));
    let report = report.json()?;
    assert_eq!((&report["passed"], &report["failed"]), (&json!(0), &json!(1)));
    assert_eq!(report["cases"][0]["result"], "differs");
    assert!(report["cases"][0]["digest"].as_str().is_some_and(|digest| digest.len() == 64));

    // What is wanted now becomes what is expected.
    let said = place.run(&["test", "--update"])?.ok()?;
    assert!(said.contains("updated cases/other.json"), "{said}");
    let other = case(&place, "cases/other.json")?;
    assert_eq!(other["expect"]["documents"][0]["body"]["balance"], 89);
    place.run(&["test"])?.ok()?;
    Ok(())
}

#[test]
fn failures_are_expected_as_well_as_effects() -> Result<()> {
    let place = Place::new()?;
    let chaos = text(&programs::guest("chaos")?);
    for (verb, verdict) in [("reject", "reject"), ("retry", "retry"), ("panic", "trap")] {
        let message = json!({
            "id": verb, "subject": "chaos.7.do", "payload": {"do": verb}, "stored_at": 1,
        });
        place.write("m.json", &message.to_string())?;
        let file = format!("cases/{verb}.json");
        place.run(&["invoke", &chaos, "--message", "m.json", "--record", &file])?;
        assert_eq!(case(&place, &file)?["expect"]["verdict"], verdict);
    }
    assert_eq!(case(&place, "cases/retry.json")?["expect"]["error"], "7 was told to retry");
    assert!(case(&place, "cases/panic.json")?["expect"]["error"].is_null(), "builds differ");
    place.run(&["test", "--component", &chaos])?.ok()?;
    Ok(())
}

#[test]
fn what_cannot_be_run_is_named_and_no_success() -> Result<()> {
    let place = Place::new()?;
    let why = place.run(&["test"])?.refused()?;
    assert!(why.contains("cases is not there"), "{why}");
    std::fs::create_dir(place.path().join("cases"))?;
    let why = place.run(&["test"])?.refused()?;
    assert!(why.contains("no case is in cases") && why.contains("--record"), "{why}");

    place.record("cases", &["--json"])?.json()?;
    let ran = place.run(&["test"])?;
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("BROKEN  cases/m-1.json: no file in the plugin directory"), "{ran:?}");
    let items = text(&programs::guest("items")?);
    let ran = place.run(&["test", "--component", &items])?;
    assert!(ran.out.contains("a case of handler 'accounts'") && ran.out.contains("'items'"));
    for (wrong, words) in [
        ("{", "it is no case: EOF"),
        (r#"{"handler": "accounts", "mesage": {}}"#, "unknown field `mesage`"),
    ] {
        place.write("cases/m-1.json", wrong)?;
        let report = place.run(&["test", "--json"])?;
        assert_eq!(report.code, Some(1));
        let report = report.json()?;
        assert_eq!(report["cases"][0]["result"], "broken");
        assert!(report["cases"][0]["error"].as_str().is_some_and(|why| why.contains(words)));
    }
    Ok(())
}

#[tokio::test]
async fn a_watched_case_is_run_again_when_it_changes() -> Result<()> {
    let place = Place::new()?;
    place.record("cases", &[])?.ok()?;
    let accounts = text(&programs::guest("accounts")?);
    for watch in [
        vec!["test", "--watch", "--component", &accounts],
        vec!["invoke", &accounts, "--watch", "--message", "m.json"],
    ] {
        let mut child = Command::new(programs::tribox()?)
            .args(&watch)
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("output")?;
        let (tell, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Nobody listens any more once the test is over.
                let _ = tell.send(line);
            }
        });
        let mut lines = Vec::new();
        let mut watching = async |times: usize| {
            wait_until("it was run and watches", async || {
                lines.extend(told.try_iter());
                let seen = lines.iter().filter(|line| line.starts_with("watching")).count();
                if seen >= times { Ok(()) } else { Err(format!("{lines:?}")) }
            })
            .await
        };
        watching(1).await?;
        let mut changed = case(&place, "cases/m-1.json")?;
        changed["message"]["payload"]["amount"] = json!(1);
        place.write("cases/m-1.json", &changed.to_string())?;
        place.write("m.json", &changed["message"].to_string())?;
        watching(2).await?;
        let said = lines.join("\n");
        assert!(said.contains("-1") || said.contains("1 not"), "{said}");
        child.kill()?;
        child.wait()?;
        reader.join().ok().context("the reader ended")?;
        place.record("cases", &[])?.ok()?;
    }
    Ok(())
}
