//! Making the streams that handlers need. Nothing is made unless it was asked for.

use async_nats::jetstream::stream::{Config, StorageType};

use super::{Nats, NatsError, find_streams};
use crate::model::Description;
use crate::model::subject::{covers, overlap};

/// A stream that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub stream: String,
    pub subjects: Vec<String>,
    /// Who needs it, for people.
    pub because: String,
}

/// What is missing for these handlers: a stream for each subject that no stream takes.
///
/// # Errors
/// JetStream does not answer.
pub async fn plan(nats: &Nats, handlers: &[Description]) -> Result<Vec<Change>, NatsError> {
    let mut changes: Vec<Change> = Vec::new();
    for handler in handlers {
        let consumed = handler.subscriptions.iter().map(|s| &s.subject);
        let wanted: Vec<String> = consumed.chain(&handler.publishes).cloned().collect();
        let there = find_streams(nats, &wanted).await?;
        for subject in wanted {
            let mut taken = there
                .iter()
                .flat_map(|s| &s.subjects)
                .chain(changes.iter().flat_map(|change| &change.subjects));
            if taken.clone().any(|wide| covers(wide, &subject)) {
                continue;
            }
            if let Some(other) = taken.find(|other| overlap(other, &subject)) {
                // JetStream refuses subjects that overlap; somebody has to decide.
                let handler = &handler.name;
                tracing::warn!(
                    handler,
                    "no stream is made for '{subject}': it overlaps with '{other}' of a stream, \
                     which covers a part of it alone"
                );
                continue;
            }
            let stream = stream_name(&subject);
            let because = format!("handler {}", handler.name);
            match changes.iter_mut().find(|c| c.stream == stream) {
                Some(change) => change.subjects.push(subject),
                None => changes.push(Change { stream, subjects: vec![subject], because }),
            }
        }
    }
    Ok(changes)
}

/// Makes the planned streams: file storage, limits as the server sets them, a dedup window of two
/// minutes. A stream of that name that is there gets the subjects added.
///
/// # Errors
/// JetStream refuses.
pub async fn provision(nats: &Nats, changes: &[Change]) -> Result<(), NatsError> {
    for change in changes {
        let name = &change.stream;
        let failed = |why: &dyn std::fmt::Display| {
            NatsError::passing(&format!("stream {name} cannot be made"), why)
        };
        let mut config = match nats.jetstream.get_stream(name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(_) => Config {
                name: name.clone(),
                storage: StorageType::File,
                description: Some(format!("made by tribox provision for {}", change.because)),
                ..Config::default()
            },
        };
        config.subjects.extend(change.subjects.iter().cloned());
        nats.jetstream.create_or_update_stream(config).await.map_err(|why| failed(&why))?;
    }
    Ok(())
}

/// A name for the stream of a subject: its first token in capitals.
fn stream_name(subject: &str) -> String {
    let first = subject.split('.').next().unwrap_or_default();
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = first.chars().map(clean).collect();
    if first == "*" || first == ">" { "MESSAGES".to_owned() } else { name.to_uppercase() }
}

#[cfg(test)]
mod tests {
    use super::stream_name;

    #[test]
    fn a_stream_is_named_after_the_first_token() {
        assert_eq!(stream_name("accounts.*.debit"), "ACCOUNTS");
        assert_eq!(stream_name("a$b.c"), "A_B");
        assert_eq!(stream_name(">"), "MESSAGES");
    }
}
