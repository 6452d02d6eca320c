//! `tribox check FILE`: is this a handler, and what does it say of itself? No servers, no config.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::plugins::PluginDirectory;
use crate::sandbox::{Guest, Import, ImportKind, Sandbox, SandboxConfig};

/// Checks one file as the host would load it, and prints to `out` what it found: the refusal too,
/// so that `--json` always has one object to read. Exit code 0 for a handler, 1 for anything else.
pub fn run(file: &Path, as_json: bool, out: &mut impl Write) -> ExitCode {
    let checked = check(file);
    let text = match (&checked, as_json) {
        (Ok(guest), false) => describe(file, guest),
        (Ok(guest), true) => format!("{:#}\n", to_json(file, guest)),
        (Err(error), false) => format!("refused: {error}\n"),
        (Err(error), true) => {
            let file = file.display().to_string();
            format!("{:#}\n", json!({ "file": file, "handler": null, "error": error }))
        }
    };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if checked.is_ok() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(file: &Path) -> Result<Guest, String> {
    // A link that is named on the command line is meant, wherever it leads.
    let place = file
        .canonicalize()
        .map_err(|error| format!("{} cannot be opened: {error}", file.display()))?;
    let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(format!("{} does not name a file", file.display()));
    };
    let name = name.to_string_lossy();
    let directory = PluginDirectory::open(directory).map_err(|error| error.to_string())?;
    let wasm = directory.read(&name).map_err(|error| error.to_string())?;
    let sandbox = Sandbox::new(SandboxConfig { concurrency: 1, cache: None })
        .map_err(|error| error.to_string())?;
    sandbox.load(&name, &wasm).map_err(|error| error.to_string())
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

fn to_json(file: &Path, guest: &Guest) -> Value {
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
    json!({
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
        "error": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(content: &[u8], as_json: bool) -> String {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("x.wasm");
        std::fs::write(&file, content).unwrap();
        let mut out = Vec::new();
        // ExitCode cannot be compared; its text can.
        let code = format!("{:?}", run(&file, as_json, &mut out));
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
        run(Path::new("/nowhere/x.wasm"), false, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("refused: /nowhere/x.wasm cannot be opened"), "{text}");
    }
}
