//! `tribox bench`: load for a handler of one's own, on one's own servers, and how it does. It
//! publishes messages, follows the handler's consumer, and times what comes out.

mod load;
mod outcome;

use std::path::PathBuf;
use std::sync::Arc;

use super::{ConfigFile, Outcome, runtime, say};
use crate::stream::{Nats, NatsOptions};

/// What is published, and what is looked at.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Where messages go. `{key}` stands for a key, `{n}` for the number of the message.
    #[arg(long)]
    subject: String,
    /// A file with the payload of each message; `{key}` and `{n}` in it are replaced as well.
    #[arg(long)]
    payload: PathBuf,
    /// The handler whose progress is followed.
    #[arg(long)]
    handler: String,
    /// Subjects of what it sends, for the time from publishing to output: `accounts.events.>`.
    #[arg(long)]
    output: Option<String>,
    /// Messages.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Keys that they are spread over.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Messages a second; as fast as the stream takes them where it is not given.
    #[arg(long)]
    rate: Option<f64>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// What is the same for every message.
struct Template {
    subject: String,
    payload: String,
    keys: u64,
    /// Part of each id, so that no run's messages are duplicates of another's.
    run: String,
}

impl Template {
    fn id(&self, n: u64) -> String {
        format!("bench-{}-{n}", self.run)
    }

    fn fill(&self, text: &str, n: u64) -> String {
        let key = n % self.keys;
        text.replace("{key}", &key.to_string()).replace("{n}", &n.to_string())
    }
}

pub(super) fn run(config: &ConfigFile, options: &Options) -> Outcome {
    let config = config.load()?;
    if options.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return Err("--rate must be above zero".into());
    }
    let template = Arc::new(template(options)?);
    let nats = NatsOptions {
        url: config.nats.url.clone(),
        credentials: config.nats.credentials.clone(),
        ca: config.nats.ca.clone(),
    };
    runtime()?.block_on(async {
        let connected = Nats::connect(&nats).await?;
        let outcome = load::run(&connected, nats, &template, options).await?;
        say(&if options.json { outcome.json() } else { outcome.table() });
        Ok(())
    })
}

#[expect(clippy::disallowed_methods, reason = "the file is named on the command line")]
fn template(options: &Options) -> Result<Template, String> {
    let shown = options.payload.display();
    let payload = std::fs::read_to_string(&options.payload).map_err(|why| {
        format!("the payload {shown} cannot be read: {why}; name a text file by --payload FILE")
    })?;
    Ok(Template {
        subject: options.subject.clone(),
        payload: payload.trim_end().to_owned(),
        keys: options.keys,
        run: format!("{:016x}", rand::random::<u64>()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let (subject, payload) = ("a.{key}.b".to_owned(), String::new());
        let template = Template { subject, payload, keys: 10, run: "r".to_owned() };
        assert_eq!(template.fill(&template.subject, 42), "a.2.b");
        assert_eq!(template.fill("{\"n\":{n}}", 42), "{\"n\":42}");
        assert_eq!(template.id(3), "bench-r-3");
    }
}
