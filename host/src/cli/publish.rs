//! `tribox publish`: one message into its stream, to try a handler out.

use std::io::Read;
use std::path::PathBuf;

use super::{ConfigFile, Outcome, places, runtime, say};
use crate::config;
use crate::model::subject;
use crate::stream::{Nats, NatsOptions, put};

/// To the server of the `tribox dev` that runs here, if one does; else to that of the config.
#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// The subject, such as `items.create`.
    subject: String,
    /// The payload; `-` reads it from standard input.
    #[arg(default_value = "{}")]
    payload: String,
    /// The message's id, by which it is handled once; without it, it is a message of its own.
    #[arg(long)]
    id: Option<String>,
    /// A header line.
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Where `tribox dev` keeps its data.
    #[arg(long, default_value = ".tribox")]
    data: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("it has no colon; write NAME:VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn run(publish: &Publish) -> Outcome {
    subject::check_subject(&publish.subject).map_err(|why| format!("subject: {why}"))?;
    let nats = match places::read(&publish.data) {
        Some(dev) => config::Nats { url: dev.nats_url, ..config::Nats::default() },
        None => publish.config.load()?.nats,
    };
    let mut payload = publish.payload.clone().into_bytes();
    if publish.payload == "-" {
        payload.clear();
        std::io::stdin().lock().read_to_end(&mut payload)?;
    }
    let mut headers = publish.headers.clone();
    headers.extend(publish.id.iter().map(|id| ("Nats-Msg-Id".to_owned(), id.clone())));
    let stored = runtime()?.block_on(async {
        let config::Nats { url, credentials, ca, .. } = nats;
        let nats = Nats::connect(&NatsOptions { url, credentials, ca }).await?;
        let stored = put(&nats, &publish.subject, &headers, payload.into()).await?;
        Ok::<_, Box<dyn std::error::Error>>(stored)
    })?;
    if publish.json {
        let stream = &stored.stream;
        let object = serde_json::json!({
            "stream": stream, "sequence": stored.sequence, "duplicate": stored.duplicate,
        });
        say(&object.to_string());
    } else if stored.duplicate {
        let id = publish.id.as_deref().unwrap_or_default();
        say(&format!("stream {} has a message of id {id} already: kept that", stored.stream));
    } else {
        say(&format!("message {} of stream {}", stored.sequence, stored.stream));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_name_and_a_value() {
        assert_eq!(header("A: b:c"), Ok(("A".into(), "b:c".into())));
        assert!(header("A").is_err());
    }
}
