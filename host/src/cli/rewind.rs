//! `tribox rewind`: after Postgres was restored to an earlier time, sets a handler's consumers back to what
//! the database knows, and notes what stands in the streams already, so that handling the messages again
//! sends nothing twice.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::operate::{Common, say_json};
use super::text::count;
use super::{Outcome, say};
use crate::config::Config;
use crate::model::{InboxKey, Unit};
use crate::node::{self, Compare, Lost, compare, remembered_since};
use crate::store::{Operator, Position};
use crate::stream::{Keeper, Nats, consumed, ids_since, keepers, rewind};
use crate::telemetry::Health;

/// How far the clocks of Postgres and NATS may be apart: milliseconds.
const SKEW: i64 = 60_000;
/// How long handling what was delivered may take.
const IN_HAND: Duration = Duration::from_secs(2);
/// Ids that are noted at once.
const NOTED: usize = 5_000;

#[derive(Debug, clap::Args)]
pub(super) struct Rewind {
    /// The handler's name.
    handler: String,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// A consumer that is ahead of the database.
#[derive(Debug)]
pub(super) struct Ahead {
    unit: Unit,
    pub(super) stream: String,
    lost: Lost,
    /// How far the consumer was.
    was_at: u64,
}

impl Ahead {
    /// How many messages the database does not know.
    pub(super) fn messages(&self) -> i64 {
        i64::try_from(self.lost.keys.len()).unwrap_or(i64::MAX)
    }
}

pub(super) fn run(arguments: &Rewind) -> Outcome {
    let config = arguments.common.config.load()?;
    arguments.common.operate(async |operator| {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let Some(nats) = node::connect_nats(&config.nats, &health, &stop).await? else {
            return Ok(());
        };
        let handler = &arguments.handler;
        let streams = keepers(&nats).await?;
        let units = units(operator, handler).await?;
        if !has_consumer(&nats, &units, &streams).await? {
            return Err(format!(
                "handler {handler} has no consumer on any stream: check its name (`tribox \
                 status`); where its consumers were deleted, hosts make them anew where the \
                 database stands"
            )
            .into());
        }
        let ahead = ahead(&config, operator, &nats, handler, &streams, To::Delivered).await?;
        let sent = note(operator, &nats, &streams, &ahead, arguments.dry_run).await?;
        if !arguments.dry_run {
            for ahead in &ahead {
                rewind(&nats, &ahead.stream, &ahead.unit, ahead.lost.first).await?;
            }
        }
        report(arguments, &ahead, sent)
    })
}

/// The handler as a whole, and the partitions of it that have handled something.
async fn units(
    operator: &Operator,
    handler: &str,
) -> Result<Vec<Unit>, Box<dyn std::error::Error>> {
    let positions = operator.positions().await?;
    let mut units: Vec<Unit> = positions
        .iter()
        .filter_map(|position| Unit::parse(&position.handler))
        .filter(|unit| unit.handler() == handler && unit.partition().is_some())
        .collect();
    units.dedup();
    units.push(Unit::whole(handler));
    Ok(units)
}

async fn has_consumer(
    nats: &Nats,
    units: &[Unit],
    streams: &[Keeper],
) -> Result<bool, Box<dyn std::error::Error>> {
    for Keeper { stream, .. } in streams {
        for unit in units {
            if consumed(nats, stream, unit).await?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// How far consumers are compared with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// As far as all was acknowledged: what is missing there is lost.
    Acknowledged,
    /// As far as messages were delivered: what is missing there and was not in hand is lost, too.
    Delivered,
}

/// The handler's consumers that are ahead of the database.
pub(super) async fn ahead(
    config: &Config,
    operator: &Operator,
    nats: &Nats,
    handler: &str,
    streams: &[Keeper],
    to: To,
) -> Result<Vec<Ahead>, Box<dyn std::error::Error>> {
    let positions = operator.positions().await?;
    let mut found = Vec::new();
    let units = units(operator, handler).await?;
    let all = streams.iter().flat_map(|keeper| units.iter().map(move |unit| (keeper, unit)));
    for (Keeper { stream, .. }, unit) in all {
        let Some(consumed) = consumed(nats, stream, unit).await? else { continue };
        let (created, name) = (consumed.stream_created, unit.to_string());
        let mine =
            |p: &&Position| p.handler == name && p.stream == *stream && p.stream_created == created;
        let position = positions.iter().find(mine).map(|p| (p.handled, p.floor));
        let to = match to {
            To::Acknowledged => consumed.acknowledged,
            To::Delivered => consumed.delivered,
        };
        let what = Compare {
            handler,
            position,
            // Without keys the floor is zero, and all that is remembered is looked at.
            keyed: true,
            consumed: &consumed,
            to,
            remembered_since: remembered_since(config.retention.inbox),
            all: true,
        };
        let mut lost = compare(nats, stream, &what, operator).await?;
        if lost.as_ref().is_some_and(|lost| lost.first > consumed.acknowledged) {
            // A host that runs may have them in hand.
            tokio::time::sleep(IN_HAND).await;
            lost = compare(nats, stream, &what, operator).await?;
        }
        let ahead = |lost| Ahead { unit: unit.clone(), stream: stream.clone(), lost, was_at: to };
        found.extend(lost.map(ahead));
    }
    Ok(found)
}

/// Notes what stands in the streams and would be sent once more: by messages that the database does not
/// know, or has still before it, delayed, undelivered or parked. Returns how many that is.
async fn note(
    operator: &Operator,
    nats: &Nats,
    streams: &[Keeper],
    ahead: &[Ahead],
    dry_run: bool,
) -> Result<usize, Box<dyn std::error::Error>> {
    // What the streams got after this is not in the database: where no host has run since it was restored,
    // its last sign of life tells when that begins.
    let stored = ahead.iter().map(|ahead| i64::try_from(ahead.lost.stored_at).unwrap_or(i64::MAX));
    let since = stored.chain(operator.last_sign_of_life().await?).min().unwrap_or(i64::MAX);
    let since = since.saturating_sub(SKEW);
    let mut sent = Vec::new();
    for Keeper { stream, .. } in streams.iter().filter(|keeper| !keeper.queue) {
        for id in ids_since(nats, stream, since).await? {
            if let Some(key) = InboxKey::of_outgoing(&id) {
                sent.push((id.into_string(), key));
            }
        }
    }
    let mut noted = 0;
    for some in sent.chunks(NOTED) {
        let again = operator.still_to_send(some).await?;
        let again: Vec<(String, InboxKey)> =
            some.iter().filter(|(id, _)| again.contains(id)).cloned().collect();
        noted += again.len();
        if !dry_run {
            operator.note_sent(&again).await?;
        }
    }
    Ok(noted)
}

fn report(arguments: &Rewind, ahead: &[Ahead], sent: usize) -> Outcome {
    let handler = &arguments.handler;
    if arguments.common.json {
        let line = |ahead: &Ahead| {
            json!({
                "stream": ahead.stream, "to": ahead.lost.first, "was_at": ahead.was_at,
                "messages": ahead.lost.keys.len(),
            })
        };
        let consumers: Vec<_> = ahead.iter().map(line).collect();
        return say_json(&json!({
            "handler": handler, "dry_run": arguments.dry_run, "consumers": consumers,
            "already_sent": sent,
        }));
    }
    if ahead.is_empty() {
        say(&format!("{handler}: consumers and database agree, nothing is to be set back"));
    }
    let done = if arguments.dry_run { "would be set back" } else { "was set back" };
    for one in ahead {
        let Ahead { unit, stream, lost, was_at } = one;
        say(&format!(
            "{unit}: its consumer of {stream} {done} from {was_at} to before {}: {} that \
             the database does not know",
            lost.first,
            count(one.messages(), "message"),
        ));
    }
    say(&format!(
        "{} that would be sent again stand in streams already: they are not",
        count(i64::try_from(sent).unwrap_or(i64::MAX), "message")
    ));
    Ok(())
}
