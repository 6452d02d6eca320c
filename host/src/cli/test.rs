//! `tribox test`: recorded cases against a component, in whatever language it is written. No servers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::attempt::attempt;
use super::diff::diff;
use super::golden::{CaseFile, Expected};
use super::text::{count, printable, set_in};
use super::{ConfigFile, component, say, watch};
use crate::config::Config;
use crate::model::{Limits, rules};
use crate::sandbox::Guest;

/// Exit code 0: every case came to what it says; 1: one did not, could not be run, or there is none.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// Case files, and directories of them; `tribox invoke … --record` writes cases.
    #[arg(value_name = "FILE or DIR", default_value = "cases")]
    cases: Vec<PathBuf>,
    /// The component, in place of the one in the plugin directory that has the handler's name.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Compare JSON payloads byte for byte, not by what they mean.
    #[arg(long)]
    exact: bool,
    /// Write into the cases that differ what their messages come to now.
    #[arg(long, conflicts_with = "watch")]
    update: bool,
    /// Run them again whenever a component, a case or the config has changed.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    config: ConfigFile,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// What became of one case.
#[derive(Serialize)]
struct Ran {
    file: String,
    handler: Option<String>,
    /// The component that it was run against, and its digest.
    component: Option<String>,
    digest: Option<String>,
    result: Comparison,
    /// Lines that differ: `-` what is expected, `+` what it came to.
    diff: Option<String>,
    /// Why it could not be run.
    error: Option<String>,
    /// What the reader has to know, and what the guest printed.
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Comparison {
    Ok,
    Differs,
    /// It could not be run.
    Broken,
    /// It differed and was written anew.
    Updated,
}

/// What scripts get.
#[derive(Serialize)]
struct Report<'a> {
    cases: &'a [Ran],
    passed: usize,
    failed: usize,
}

/// The components that cases are run against, each loaded once.
struct Components<'a> {
    test: &'a Test,
    config: Config,
    loaded: BTreeMap<String, Result<(PathBuf, Guest), String>>,
}

/// Runs the cases and prints what became of each.
///
/// # Errors
/// The config or the cases cannot be read.
pub(super) fn run(test: &Test) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if test.watch {
        watch::again_on_change(
            || test.files(),
            || {
                if let Err(why) = once(test) {
                    say(&format!("tribox: {why}"));
                }
            },
        );
    }
    once(test)
}

fn once(test: &Test) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let files = case_files(&test.cases)?;
    if files.is_empty() {
        let places: Vec<String> = test.cases.iter().map(|c| c.display().to_string()).collect();
        let places = places.join(", ");
        return Err(format!(
            "no case is in {places}; record one by `tribox invoke FILE --message m.json --record \
             DIR`"
        )
        .into());
    }
    let mut components = Components { test, config: test.config.load()?, loaded: BTreeMap::new() };
    let mut ran = Vec::new();
    for file in files {
        let case = components.run(&file);
        if !test.json {
            say(&case.to_text());
        }
        ran.push(case);
    }
    let passed = ran.iter().filter(|ran| ran.result.is_good()).count();
    let failed = ran.len() - passed;
    if test.json {
        say(&serde_json::to_string_pretty(&Report { cases: &ran, passed, failed })?);
    } else {
        let cases = count(i64::try_from(ran.len()).unwrap_or(i64::MAX), "case");
        say(&format!("{cases}: {passed} as expected, {failed} not"));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Comparison {
    fn is_good(self) -> bool {
        matches!(self, Comparison::Ok | Comparison::Updated)
    }
}

impl Test {
    /// What a change of which is a reason to run again.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = case_files(&self.cases).unwrap_or_default();
        files.extend(self.config.path());
        match (&self.component, self.config.load()) {
            (Some(component), _) => files.push(component.clone()),
            (None, Ok(config)) => files.extend(inside(&config.plugins.directory, "wasm")),
            (None, Err(_)) => {}
        }
        files
    }
}

impl Components<'_> {
    fn run(&mut self, file: &Path) -> Ran {
        let mut ran = Ran {
            file: file.display().to_string(),
            handler: None,
            component: None,
            digest: None,
            result: Comparison::Broken,
            diff: None,
            error: None,
            notes: Vec::new(),
        };
        match self.compare(file, &mut ran) {
            Ok(result) => ran.result = result,
            Err(why) => ran.error = Some(why),
        }
        ran
    }

    fn compare(&mut self, file: &Path, ran: &mut Ran) -> Result<Comparison, String> {
        let (mut case, documents) = CaseFile::read(file)?;
        ran.handler = Some(case.handler.clone());
        let (place, guest) = self.component(&case.handler)?;
        ran.component = Some(place.display().to_string());
        ran.digest = Some(guest.digest().to_owned());
        let handler = self.config.handler(&case.handler);
        let limits = Limits::from(handler.limits.unwrap_or_else(|| self.config.limits.clone()));
        // A case has all its settings: what this machine's config says must not change it.
        let guest = guest.configured(case.settings.clone(), limits);
        let outcome = attempt(guest, &case.message, documents)?;
        let actual = Expected::of(&outcome).map_err(|why| why.to_string())?;
        let Some((expected, found)) = case.expect.compare(&actual, self.test.exact) else {
            return Ok(Comparison::Ok);
        };
        if self.test.update {
            case.expect = actual;
            case.write(file)?;
            return Ok(Comparison::Updated);
        }
        ran.diff = Some(diff(&expected, &found));
        ran.notes = outcome.notes.iter().map(|note| format!("note: {note}")).collect();
        ran.notes.extend(outcome.failure_text());
        let printed = outcome.output.iter();
        ran.notes.extend(printed.map(|line| format!("{}: {}", line.stream, line.line)));
        Ok(Comparison::Differs)
    }

    fn component(&mut self, handler: &str) -> Result<(PathBuf, Guest), String> {
        if let Some(known) = self.loaded.get(handler) {
            return known.clone();
        }
        let found = match &self.test.component {
            Some(file) => component::load(file, self.config.plugins.cache()).and_then(|guest| {
                let name = &guest.description().name;
                if name == handler {
                    return Ok((file.clone(), guest));
                }
                let file = file.display();
                Err(format!("it is a case of handler '{handler}', and {file} is '{name}'"))
            }),
            None => component::of_handler(&self.config, handler),
        };
        self.loaded.insert(handler.to_owned(), found.clone());
        found
    }
}

impl Ran {
    fn to_text(&self) -> String {
        let word = match self.result {
            Comparison::Ok => "ok",
            Comparison::Differs => "FAILED",
            Comparison::Broken => "BROKEN",
            Comparison::Updated => "updated",
        };
        let mut text = format!("{word:<8}{}", self.file);
        if let Some(why) = &self.error {
            text = format!("{text}: {}", printable(why));
        }
        if let (Some(diff), Some(component), Some(digest)) =
            (&self.diff, &self.component, &self.digest)
        {
            let digest = rules::shorten_to(digest, 12);
            text = format!(
                "{text}\n  - expected, + what {component} ({digest}) came to\n{}",
                set_in(&printable(diff))
            );
            text.push_str(&set_in(&printable(&self.notes.join("\n"))));
        }
        text
    }
}

/// The case files of what was named, in the order of their names.
fn case_files(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for place in named {
        if place.is_dir() {
            let mut found = inside(place, "json");
            found.sort();
            files.extend(found);
        } else if place.is_file() {
            files.push(place.clone());
        } else {
            return Err(format!(
                "{} is not there; name a case file or a directory of them",
                place.display()
            ));
        }
    }
    Ok(files)
}

/// Files of a directory by the end of their names. One that cannot be listed has none.
#[expect(clippy::disallowed_methods, reason = "the author names the directory; nothing is loaded")]
fn inside(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|file| file.extension().is_some_and(|end| end == extension)).collect()
}
