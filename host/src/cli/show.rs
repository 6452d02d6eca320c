//! `tribox parked show`: all of one message, and the case as files, to be reproduced offline.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use super::case::{DocumentFile, MessageFile};
use super::operate::{Common, say_json};
use super::text::{count, payload, printable, set_in, span, table, until};
use super::trial::trial;
use super::{ConfigFile, Outcome, component, say};
use crate::config::Config;
use crate::model::rules;
use crate::store::{Operator, ParkedDetail, ParkedLine};

/// What scripts get.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    line: &'a ParkedLine,
    parked_at: &'a str,
    build: Option<Build<'a>>,
    waiting_behind: i64,
    first_of_key: Option<i64>,
    key_paused: bool,
    message: MessageFile,
    /// The command that reproduces it, where it was exported.
    reproduce: Option<String>,
}

#[derive(Serialize)]
struct Build<'a> {
    version: &'a str,
    digest: &'a str,
}

/// A case that was written to files.
struct Exported {
    command: String,
    /// What the reader has to know of it.
    notes: Vec<String>,
}

pub(super) fn run(row: i64, export: Option<&Path>, common: &Common) -> Outcome {
    let config = common.config.load()?;
    common.operate(async |operator| {
        let detail = operator.parked_one(row).await?.ok_or_else(|| {
            format!("no parked message has row {row}; `tribox parked list` shows those there are")
        })?;
        let exported = match export {
            Some(place) => Some(write(operator, &config, &common.config, &detail, place).await?),
            None => None,
        };
        if common.json {
            return say_json(&shown(&detail, exported));
        }
        say(&facts(&detail));
        say(&format!("headers\n{}", headers(&detail)));
        say(&format!("payload\n{}", set_in(&payload(&detail.payload))));
        match exported {
            Some(Exported { command, notes }) => {
                notes.iter().for_each(|note| say(&format!("note: {note}")));
                say(&format!("To reproduce it offline:\n\n  {command}\n"));
            }
            None => say(&format!(
                "`tribox parked show {row} --export DIR` writes it to files, to be reproduced \
                 offline."
            )),
        }
        Ok(())
    })
}

fn shown(detail: &ParkedDetail, exported: Option<Exported>) -> Shown<'_> {
    let build = detail.build.as_ref();
    Shown {
        line: &detail.line,
        parked_at: &detail.parked_at,
        build: build.map(|(version, digest)| Build { version, digest }),
        waiting_behind: detail.waiting_behind,
        first_of_key: detail.first_of_key,
        key_paused: detail.key_paused,
        message: MessageFile::from(detail),
        reproduce: exported.map(|exported| exported.command),
    }
}

fn facts(detail: &ParkedDetail) -> String {
    let ParkedDetail { line, parked_at, build, .. } = detail;
    let build = build.as_ref().map(|(version, digest)| {
        format!("{} ({})", printable(version), printable(&rules::shorten_to(digest, 12)))
    });
    let key = line.key.as_deref().map_or_else(|| "none".to_owned(), printable);
    let mut rows = vec![
        ("row", line.row.to_string()),
        ("handler", printable(&line.handler)),
        ("build", build.unwrap_or_else(|| "not known any more".to_owned())),
        ("message id", printable(&line.message_id)),
        ("subject", printable(&line.subject)),
        ("key", key),
        ("state", state(detail)),
        ("reason", line.reason.clone()),
        ("error", printable(&line.error).replace('\n', "\n            ")),
        ("tries", line.attempts.to_string()),
        ("set aside", format!("{parked_at}, {} ago", span(line.age_ms))),
        ("stored at", format!("{} ms since 1970, in its stream", detail.stored_at)),
    ];
    if line.key.is_some() && line.state != "dead" {
        rows.push(("behind it", format!("{} of its key", count(detail.waiting_behind, "message"))));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect();
    table(&rows)
}

fn state(detail: &ParkedDetail) -> String {
    let line = &detail.line;
    let mut state = match line.state.as_str() {
        "retrying" => {
            let next = line.next_attempt_ms.map_or_else(|| "now".to_owned(), until);
            format!("retrying: next attempt {next}")
        }
        "waiting" => match detail.first_of_key {
            Some(first) => format!("waiting: row {first} is the first of its key"),
            None => "waiting".to_owned(),
        },
        "holding" => "holding: dead, and later messages of its key wait for it".to_owned(),
        _ => "dead: nothing more happens by itself, and its key has gone on".to_owned(),
    };
    if detail.key_paused {
        state.push_str("; its key is paused");
    }
    state
}

fn headers(detail: &ParkedDetail) -> String {
    if detail.headers.is_empty() {
        return "  (none)\n".to_owned();
    }
    let line = |(name, value): &(String, String)| printable(&format!("{name}: {value}"));
    let lines: Vec<String> = detail.headers.iter().map(line).collect();
    set_in(&lines.join("\n"))
}

/// Writes message.json and documents.json.
async fn write(
    operator: &Operator,
    config: &Config,
    config_file: &ConfigFile,
    detail: &ParkedDetail,
    place: &Path,
) -> Result<Exported, Box<dyn std::error::Error>> {
    let handler = &detail.line.handler;
    let mut notes = Vec::new();
    let mut documents = Vec::new();
    let file = match component::of_handler(config, handler) {
        Ok((file, guest)) => {
            if detail.build.as_ref().is_some_and(|(_, digest)| digest != guest.digest()) {
                let file = file.display();
                notes.push(format!("{file} is another build than the one that it failed under"));
            }
            let (seen, verdict) = trial(operator, config, guest, detail).await?;
            for ((collection, key), body) in seen {
                documents.push(DocumentFile {
                    collection,
                    key,
                    body: RawValue::from_string(body)?,
                });
            }
            notes.push(
                "documents.json has what the handler reads for this message, as it is now: it may \
                 have changed since the message failed"
                    .to_owned(),
            );
            notes.extend(verdict.map(|verdict| format!("handled now, it would come to {verdict}")));
            file
        }
        Err(why) => {
            notes.push(format!("{why}; so documents.json is empty, and the file below is a guess"));
            config.plugins.directory.join(format!("{handler}.wasm"))
        }
    };
    let reason = &detail.line.reason;
    if matches!(reason.as_str(), "refused" | "unreadable") {
        notes.push(format!(
            "the reason '{reason}' is not the handler's: offline it comes to something else"
        ));
    }
    let message = serde_json::to_string_pretty(&MessageFile::from(detail))?;
    let documents = serde_json::to_string_pretty(&documents)?;
    let failed = |path: &Path, why| format!("{} cannot be written: {why}", path.display());
    std::fs::create_dir_all(place).map_err(|why| failed(place, why))?;
    for (name, text) in [("message.json", message), ("documents.json", documents)] {
        let path = place.join(name);
        std::fs::write(&path, text + "\n").map_err(|why| failed(&path, why))?;
    }
    Ok(Exported { command: command(&file, config_file, place), notes })
}

fn command(file: &Path, config: &ConfigFile, place: &Path) -> String {
    let mut command = format!("tribox invoke {}", quoted(file));
    if let Some(config) = &config.config {
        command = format!("{command} --config {}", quoted(config));
    }
    let (message, documents) = (place.join("message.json"), place.join("documents.json"));
    format!("{command} --message {} --documents {}", quoted(&message), quoted(&documents))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = PathBuf::from(path).display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-1.wasm")), "/a/b-1.wasm");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
        let config = ConfigFile { config: Some("a b.toml".into()) };
        let command = command(Path::new("x.wasm"), &config, Path::new("case"));
        let expected = "tribox invoke x.wasm --config 'a b.toml' --message case/message.json \
                        --documents case/documents.json";
        assert_eq!(command, expected);
    }
}
