//! `tribox invoke`: one message against documents from files, in the same sandbox as in production
//! and without any server. Nothing is changed anywhere; what it would do is printed.

use std::path::PathBuf;
use std::process::ExitCode;

use super::attempt::attempt;
use super::case::{DocumentMap, MessageFile, read_documents};
use super::golden::{self, CaseFile};
use super::{ConfigFile, component, say, watch};
use crate::model::Limits;

/// Exit codes: 0 effects, 2 the handler says retry, 3 it rejects, 4 it trapped or the host stops it
/// (a limit, effects that are not allowed, no key); 1: it could not be tried.
#[derive(Debug, clap::Args)]
pub(super) struct Invoke {
    /// The component.
    file: PathBuf,
    /// The message: {"id", "subject", "key", "headers": [[name, value]], "payload" or
    /// "payload_base64", "stored_at"}; key and headers may be left out.
    #[arg(long, value_name = "FILE")]
    message: PathBuf,
    /// The documents it may read: [{"collection", "key", "body"}]; none, if not given.
    #[arg(long, value_name = "FILE")]
    documents: Option<PathBuf>,
    /// A setting of the handler, in place of the config's.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Write the message, what it was tried with and what came of it to this file, or into this
    /// directory, as a case for `tribox test`.
    #[arg(long, value_name = "FILE or DIR")]
    record: Option<PathBuf>,
    /// Try again whenever one of the files has changed.
    #[arg(long, conflicts_with = "record")]
    watch: bool,
    #[command(flatten)]
    config: ConfigFile,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has no =; write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Tries it and prints what came of it; with `--watch`, for ever.
///
/// # Errors
/// It could not be tried: a file is wrong, and the text says which and where.
pub(super) fn run(invoke: &Invoke) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if invoke.watch {
        watch::again_on_change(
            || invoke.files(),
            || {
                if let Err(why) = once(invoke) {
                    say(&format!("tribox: {why}"));
                }
            },
        );
    }
    once(invoke)
}

fn once(invoke: &Invoke) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = invoke.config.load()?;
    let file = MessageFile::read(&invoke.message)?;
    let documents = match &invoke.documents {
        Some(path) => read_documents(path)?,
        None => DocumentMap::new(),
    };
    let guest = component::load(&invoke.file, config.plugins.cache())?;
    let handler = config.handler(&guest.description().name);
    let limits = Limits::from(handler.limits.unwrap_or(config.limits));
    let mut settings = handler.settings;
    settings.extend(invoke.settings.iter().cloned());
    let outcome = attempt(guest.configured(settings.clone(), limits), &file, documents.clone())?;
    say(&if invoke.json { outcome.to_json()? } else { outcome.to_text() });
    if let Some(place) = &invoke.record {
        let path = golden::place(place, &file.id);
        let case = CaseFile::record(&outcome, file, documents, settings)?;
        case.write(&path)?;
        // Scripts read one object from standard output.
        if !invoke.json {
            say(&format!("\nrecorded {}; `tribox test` runs it", path.display()));
        }
    }
    Ok(ExitCode::from(outcome.exit_code()))
}

impl Invoke {
    /// What it reads.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.file.clone(), self.message.clone()];
        files.extend(self.documents.clone());
        files.extend(self.config.path());
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_a_key_and_a_value() {
        assert_eq!(setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(setting("a").is_err());
    }
}
