//! `tribox check FILE`: is this a handler, what does it say of itself, and what is different from the
//! build that runs? No servers.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::suggest::{Suggestion, suggestions};
use super::text::printable;
use super::{ConfigFile, compare, component};
use crate::sandbox::{Guest, Import, ImportKind};

/// What is checked.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The component.
    file: PathBuf,
    /// Say what is different from this other build of the handler, and what that means.
    #[arg(long, value_name = "OTHER", conflicts_with = "against_running")]
    against: Option<PathBuf>,
    /// The same, with the file in the plugin directory that has the same handler name.
    #[arg(long)]
    against_running: bool,
    /// Fail also for what is allowed and yet is likely to be a mistake; not for notes.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    config: ConfigFile,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// Another build to compare with: where it is, and what it is.
struct Other {
    place: String,
    guest: Guest,
}

impl Check {
    /// Where compiled code is kept; a component in Python takes its time.
    fn cache(&self) -> Option<PathBuf> {
        self.config.load().ok()?.plugins.cache()
    }
}

/// Checks one file as the host would load it, and prints to `out` what it found: the refusal too,
/// so that `--json` always has one object to read. Exit code 0 for a handler, 1 for
/// anything else, and with `--strict` where something is suggested.
pub fn run(check: &Check, out: &mut impl Write) -> ExitCode {
    let file = &check.file;
    let checked =
        component::load(file, check.cache()).and_then(|guest| Ok((other(check, &guest)?, guest)));
    let text = match (&checked, check.json) {
        (Ok((other, guest)), false) => {
            describe(file, guest) + &suggested(guest) + &compared(guest, other.as_ref())
        }
        (Ok((other, guest)), true) => format!("{:#}\n", to_json(file, guest, other.as_ref())),
        (Err(error), false) => format!("refused: {error}\n"),
        (Err(error), true) => {
            let file = file.display().to_string();
            format!("{:#}\n", json!({ "file": file, "handler": null, "error": error }))
        }
    };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let strict = |guest: &Guest| {
        check.strict && suggestions(guest.description()).iter().any(|suggestion| !suggestion.note)
    };
    let good = checked.is_ok_and(|(_, guest)| !strict(&guest));
    if good && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The build to compare with, if any is asked for.
fn other(check: &Check, guest: &Guest) -> Result<Option<Other>, String> {
    if let Some(file) = &check.against {
        let guest = component::load(file, check.cache())?;
        return Ok(Some(Other { place: file.display().to_string(), guest }));
    }
    if !check.against_running {
        return Ok(None);
    }
    let config = check.config.load().map_err(|why| why.to_string())?;
    let (file, guest) = component::of_handler(&config, &guest.description().name)?;
    Ok(Some(Other { place: file.display().to_string(), guest }))
}

fn suggested(guest: &Guest) -> String {
    let mut text = String::new();
    for Suggestion { which, why, note, .. } in suggestions(guest.description()) {
        let word = if note { "note" } else { "suggestion" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{word:<14}{}: {why}", printable(&which));
    }
    text
}

fn compared(guest: &Guest, other: Option<&Other>) -> String {
    let Some(Other { place, guest: old }) = other else { return String::new() };
    compare::to_text(place, guest, old, &compare::compare(guest, old))
}

fn import(kind: ImportKind) -> &'static str {
    match kind {
        ImportKind::Contract => "contract",
        ImportKind::Settings => "settings",
        ImportKind::Wasi => "deterministic WASI",
    }
}

fn describe(file: &Path, guest: &Guest) -> String {
    let description = guest.description();
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    line("file", &file.display().to_string());
    line("handler", &description.name);
    line("version", &description.version);
    line("contract", guest.contract());
    line("digest", guest.digest());
    line("size", &format!("{} bytes", guest.size()));
    for subscription in &description.subscriptions {
        let mut value = format!("{}  key: {}", subscription.subject, subscription.key);
        if !subscription.read_ahead.is_empty() {
            value = format!("{value}  read ahead: {}", subscription.read_ahead.join(", "));
        }
        line("subscription", &value);
    }
    line("collections", &list(&description.collections));
    line("publishes", &list(&description.publishes));
    for Import { name, kind } in guest.imports() {
        line("import", &format!("{name}  ({})", import(*kind)));
    }
    text
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn to_json(file: &Path, guest: &Guest, other: Option<&Other>) -> Value {
    let description = guest.description();
    let subscriptions = description.subscriptions.iter().map(|subscription| {
        json!({
            "subject": subscription.subject,
            "key": subscription.key.to_string(),
            "read_ahead": subscription.read_ahead,
        })
    });
    let imports = guest.imports().iter();
    let imports = imports.map(|i| json!({ "name": i.name, "kind": import(i.kind) }));
    let mut object = json!({
        "file": file.display().to_string(),
        "handler": description.name,
        "version": description.version,
        "contract": guest.contract(),
        "digest": guest.digest(),
        "size": guest.size(),
        "subscriptions": subscriptions.collect::<Vec<_>>(),
        "collections": description.collections,
        "publishes": description.publishes,
        "imports": imports.collect::<Vec<_>>(),
        "suggestions": suggestions(description),
        "error": null,
    });
    if let (Some(Other { place, guest: old }), Value::Object(fields)) = (other, &mut object) {
        let against = json!({
            "file": place,
            "version": old.description().version,
            "digest": old.digest(),
            "same_build": old.digest() == guest.digest(),
            "differences": compare::compare(guest, old),
        });
        fields.insert("against".to_owned(), against);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &Path, json: bool) -> Check {
        let config = ConfigFile { config: None };
        let (file, against) = (file.to_owned(), None);
        Check { file, against, against_running: false, strict: false, config, json }
    }

    fn refused(content: &[u8], as_json: bool) -> String {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("x.wasm");
        std::fs::write(&file, content).unwrap();
        let mut out = Vec::new();
        // ExitCode cannot be compared; its text can.
        let code = format!("{:?}", run(&check(&file, as_json), &mut out));
        assert_eq!(code, format!("{:?}", ExitCode::FAILURE));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_refusal_is_printed_and_fails() {
        let text = refused(b"", false);
        assert!(text.starts_with("refused: x.wasm: the file is empty"), "{text}");
        let object: Value = serde_json::from_str(&refused(b"text", true)).unwrap();
        assert!(object["handler"].is_null());
        assert!(object["error"].as_str().unwrap().contains("not WebAssembly"));
        let mut out = Vec::new();
        run(&check(Path::new("/nowhere/x.wasm"), false), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("refused: /nowhere/x.wasm cannot be opened"), "{text}");
    }
}
