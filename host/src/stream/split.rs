//! Putting a handler into partitions: the stream that sources its messages from the streams that hold them,
//! where NATS itself puts each under a subject with the number of its partition, by its key.
//!
//! What this must never do: have two streams hand out one message, or a later message of a key before an
//! earlier one. So a stream for another number of partitions begins right behind what the one before
//! has taken, which takes nothing more; see partitions.rs for when it is read.

use std::collections::BTreeMap;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::{Config, Info, RetentionPolicy, Source, SubjectTransform};

use super::partitions::{Layout, SOURCED, failed, layouts};
use super::{Nats, NatsError, find_streams};
use crate::model::subject::overlap;
use crate::model::{Description, KeySource, Subscription, Unit, partition_root, partition_stream};

/// Messages that are looked through for the last one of each source.
const LOOKED_THROUGH: u64 = 10_000;
/// Where a stream that takes nothing more notes with which sequence of each source it began.
const BEGAN: &str = "tribox-began-";

/// A stream of partitions that is to be made.
#[derive(Debug, Clone)]
pub struct Split {
    pub handler: String,
    pub of: u32,
    pub stream: String,
    sources: Vec<(Source, Info)>,
    /// The streams of other numbers of partitions.
    former: Vec<Info>,
}

/// What is missing for a handler in so many partitions; `None`: nothing is.
///
/// # Errors
/// Its messages cannot be told apart by subject, or JetStream does not answer.
pub async fn plan_split(
    nats: &Nats,
    description: &Description,
    of: u32,
) -> Result<Option<Split>, NatsError> {
    let handler = &description.name;
    let (mine, former): (Vec<Layout>, Vec<Layout>) =
        layouts(nats, handler).await?.into_iter().partition(|layout| layout.of == of);
    if let Some(layout) = mine.first() {
        if layout.ended() {
            let stream = &layout.info.config.name;
            return Err(NatsError::passing(
                &format!("handler {handler} cannot go back to {of} partitions"),
                &format!(
                    "stream {stream} is one of an earlier time; once it is read to its end \
                     (`tribox status`) delete it (`nats stream rm {stream}`) and provision again"
                ),
            ));
        }
        return Ok(None);
    }
    let mut sources = Vec::new();
    let filters: Vec<String> =
        description.subscriptions.iter().map(|s| s.subject.clone()).collect();
    for found in find_streams(nats, &filters).await? {
        let stream = nats.jetstream.get_stream(&found.name).await;
        let info = stream.map_err(|why| failed(&why))?.cached_info().clone();
        let mine = description.subscriptions.iter();
        let mine = mine.filter(|s| found.subjects.iter().any(|held| overlap(held, &s.subject)));
        let transforms = mine.map(|s| transform(handler, of, s)).collect::<Result<_, _>>()?;
        let source =
            Source { name: found.name, subject_transforms: transforms, ..Source::default() };
        sources.push((source, info));
    }
    let former = former.into_iter().map(|layout| layout.info).collect();
    let stream = partition_stream(handler, of);
    Ok(Some(Split { handler: handler.clone(), of, stream, sources, former }))
}

/// Makes the stream of a handler's partitions. Where the handler was in other partitions before, their
/// stream takes nothing more and this one begins behind it; where it was in none, its consumers go.
///
/// # Errors
/// JetStream refuses, or what was handled before cannot be told from what was not; the text says what to
/// do.
pub async fn make_split(nats: &Nats, split: &Split) -> Result<(), NatsError> {
    let Split { handler, of, stream, sources, former } = split;
    let cannot = |why: &dyn std::fmt::Display| {
        NatsError::passing(&format!("stream {stream} cannot be made"), why)
    };
    let Some((_, first)) = sources.first() else {
        return Err(cannot(&format!("no stream holds what handler {handler} subscribes to")));
    };
    let queue = sources.iter().find(|(_, info)| info.config.retention != RetentionPolicy::Limits);
    if let Some((source, _)) = queue {
        return Err(cannot(&format!(
            "stream {} removes what was consumed, and cannot be sourced without losing that",
            source.name
        )));
    }
    let mut begin: BTreeMap<String, u64> = BTreeMap::new();
    for former in former {
        for (source, sequence) in end(nats, former).await? {
            let begin = begin.entry(source).or_default();
            *begin = sequence.max(*begin);
        }
    }
    let mut sourced = Vec::new();
    let mut unsplit = Vec::new();
    for (source, _) in sources {
        let mut source = source.clone();
        if former.is_empty() {
            source.start_sequence = unsplit_end(nats, handler, &source.name).await?.map(|n| n + 1);
            if source.start_sequence.is_some() {
                unsplit.push(source.name.clone());
            }
        } else {
            source.start_sequence = begin.get(&source.name).copied().filter(|n| *n > 1);
        }
        sourced.push(source);
    }
    let config = Config {
        name: stream.clone(),
        description: Some(format!("tribox: handler {handler} in {of} partitions")),
        subjects: vec![format!("{}.>", partition_root(handler, *of))],
        sources: Some(sourced),
        storage: first.config.storage,
        num_replicas: first.config.num_replicas,
        max_age: first.config.max_age,
        max_bytes: first.config.max_bytes,
        duplicate_window: first.config.duplicate_window,
        ..Config::default()
    };
    nats.jetstream.create_stream(config).await.map_err(|why| cannot(&why))?;
    // From now on hosts leave the handler's messages to its partitions; these consumers are read no more.
    let durable = Unit::whole(handler).durable();
    for name in unsplit {
        let stream = nats.jetstream.get_stream(&name).await.map_err(|why| failed(&why))?;
        stream.delete_consumer(&durable).await.map_err(|why| failed(&why))?;
    }
    Ok(())
}

/// Has a stream of partitions take nothing more; returns with which sequence of each source one that
/// follows begins.
async fn end(nats: &Nats, former: &Info) -> Result<BTreeMap<String, u64>, NatsError> {
    let mut config = former.config.clone();
    let name = config.name.clone();
    let sources = config.sources.take().unwrap_or_default();
    if !sources.is_empty() {
        for source in &sources {
            let began = source.start_sequence.unwrap_or(1).to_string();
            config.metadata.insert(format!("{BEGAN}{}", source.name), began);
        }
        nats.jetstream.update_stream(config).await.map_err(|why| failed(&why))?;
    }
    let stream = nats.jetstream.get_stream(&name).await.map_err(|why| failed(&why))?;
    let info = stream.cached_info();
    let began = |(key, value): (&String, &String)| {
        Some((key.strip_prefix(BEGAN)?.to_owned(), value.parse().ok()?))
    };
    let began: BTreeMap<String, u64> = info.config.metadata.iter().filter_map(began).collect();
    let mut next = BTreeMap::new();
    let (first, last) = (info.state.first_sequence.max(1), info.state.last_sequence);
    let mut looked = 0;
    let mut sequence = last;
    while sequence >= first && next.len() < began.len() && looked < LOOKED_THROUGH {
        // What is not there was deleted.
        if let Ok(message) = stream.get_raw_message(sequence).await
            && let Some(sourced) = message.headers.get(SOURCED)
            && let mut words = sourced.as_str().split(' ')
            && let (Some(source), Some(Ok(taken))) = (words.next(), words.next().map(str::parse))
        {
            let taken: u64 = taken;
            next.entry(source.to_owned()).or_insert(taken + 1);
        }
        sequence -= 1;
        looked += 1;
    }
    for (source, start) in began {
        if next.contains_key(&source) {
            continue;
        }
        if sequence >= first || first > 1 {
            return Err(NatsError::passing(
                &format!("how much of {source} stream {name} has taken cannot be seen any more"),
                &"its messages are gone; publish one message of each subscription, and try again",
            ));
        }
        next.insert(source, start);
    }
    Ok(next)
}

/// Up to where a stream was handled before the handler was in partitions; `None`: it was not.
async fn unsplit_end(nats: &Nats, handler: &str, name: &str) -> Result<Option<u64>, NatsError> {
    let stream = nats.jetstream.get_stream(name).await.map_err(|why| failed(&why))?;
    let info = match stream.consumer_info(Unit::whole(handler).durable()).await {
        Ok(info) => info,
        Err(why) if why.kind() == ConsumerInfoErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(&why)),
    };
    let cannot = |why: &str| {
        NatsError::passing(&format!("handler {handler} cannot be put into partitions now"), &why)
    };
    if info.num_waiting > 0 {
        return Err(cannot(
            "a host reads its messages; stop all hosts in order, and try again (where one was \
             killed it takes half a minute until that is seen)",
        ));
    }
    // What is acknowledged behind what is not would be handled again under another id.
    let behind = info.delivered.consumer_sequence - info.ack_floor.consumer_sequence;
    if behind > info.num_ack_pending as u64 {
        return Err(cannot(
            "the host that read its messages last did not end in order; start one, stop it in \
             order, and try again",
        ));
    }
    Ok(Some(info.ack_floor.stream_sequence))
}

/// How NATS puts the messages of a subscription into partitions.
fn transform(
    handler: &str,
    of: u32,
    subscription: &Subscription,
) -> Result<SubjectTransform, NatsError> {
    let subject = &subscription.subject;
    let cannot = |why: &str| {
        NatsError::passing(
            &format!("handler {handler} cannot be put into partitions"),
            &format!("subscription {subject}: {why}"),
        )
    };
    let KeySource::SubjectToken(token) = subscription.key else {
        return Err(cannot(
            "its key is not a token of the subject, which is all that NATS splits by",
        ));
    };
    let token = usize::try_from(token).unwrap_or(usize::MAX);
    let tokens: Vec<&str> = subject.split('.').collect();
    if tokens.get(token) != Some(&"*") {
        return Err(cannot("the token of its key is not a '*'"));
    }
    let wild = tokens[..=token].iter().filter(|token| **token == "*").count();
    let mut count = 0;
    let mut target = |token: &&str| match *token {
        "*" => {
            count += 1;
            format!("{{{{wildcard({count})}}}}")
        }
        other => other.to_owned(),
    };
    let rest: Vec<String> = tokens.iter().map(&mut target).collect();
    let root = partition_root(handler, of);
    let destination = format!("{root}.{{{{partition({of},{wild})}}}}.{}", rest.join("."));
    Ok(SubjectTransform { source: subject.clone(), destination })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(subject: &str, key: KeySource) -> Result<String, String> {
        let subscription =
            Subscription { subject: subject.to_owned(), key, read_ahead: Vec::new() };
        let transform = transform("a", 4, &subscription);
        transform.map(|t| t.destination).map_err(|why| why.to_string())
    }

    #[test]
    fn partitions_are_told_by_the_token_of_the_key() {
        assert_eq!(
            split("x.*.y.*.z", KeySource::SubjectToken(3)).unwrap(),
            "tribox.partition.a.4.{{partition(4,2)}}.x.{{wildcard(1)}}.y.{{wildcard(2)}}.z"
        );
        assert_eq!(
            split("x.*.>", KeySource::SubjectToken(1)).unwrap(),
            "tribox.partition.a.4.{{partition(4,1)}}.x.{{wildcard(1)}}.>"
        );
        let why = split("x.*", KeySource::Header("h".into())).unwrap_err();
        assert!(why.contains("not a token of the subject"), "{why}");
        for token in [0, 2] {
            let why = split("x.*.>", KeySource::SubjectToken(token)).unwrap_err();
            assert!(why.contains("is not a '*'"), "{why}");
        }
    }
}
