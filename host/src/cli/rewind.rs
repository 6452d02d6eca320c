//! `tribox rewind`: after Postgres was restored to an earlier time, sets a handler's consumers back to what
//! the database knows, and notes what stands in the streams already, so that handling the messages again
//! sends nothing twice.

use std::collections::HashSet;

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
    acknowledged: u64,
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
        let ahead = ahead(&config, operator, &nats, handler, &streams).await?;
        let sent = if ahead.is_empty() {
            0
        } else {
            note(operator, &nats, &streams, &ahead, arguments.dry_run).await?
        };
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

/// The handler's consumers that are ahead of the database.
pub(super) async fn ahead(
    config: &Config,
    operator: &Operator,
    nats: &Nats,
    handler: &str,
    streams: &[Keeper],
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
        let what = Compare {
            handler,
            position,
            // Without keys the floor is zero, and all that is remembered is looked at.
            keyed: true,
            consumed: &consumed,
            remembered_since: remembered_since(config.retention.inbox),
            all: true,
        };
        let lost = compare(nats, stream, &what, operator).await?;
        let acknowledged = consumed.acknowledged;
        let ahead = |lost| Ahead { unit: unit.clone(), stream: stream.clone(), lost, acknowledged };
        found.extend(lost.map(ahead));
    }
    Ok(found)
}

/// Notes what the lost messages had sent and stands in the streams; returns how many that is.
async fn note(
    operator: &Operator,
    nats: &Nats,
    streams: &[Keeper],
    ahead: &[Ahead],
    dry_run: bool,
) -> Result<usize, Box<dyn std::error::Error>> {
    let lost: HashSet<InboxKey> = ahead.iter().flat_map(|a| a.lost.keys.iter().copied()).collect();
    let since = ahead.iter().map(|ahead| ahead.lost.stored_at).min().unwrap_or_default();
    let since = i64::try_from(since).unwrap_or(i64::MAX) - SKEW;
    let mut sent = Vec::new();
    for Keeper { stream, .. } in streams.iter().filter(|keeper| !keeper.queue) {
        for id in ids_since(nats, stream, since).await? {
            if let Some(key) = InboxKey::of_outgoing(&id)
                && lost.contains(&key)
            {
                sent.push((id.into_string(), key));
            }
        }
    }
    if !dry_run {
        for some in sent.chunks(NOTED) {
            operator.note_sent(some).await?;
        }
    }
    Ok(sent.len())
}

fn report(arguments: &Rewind, ahead: &[Ahead], sent: usize) -> Outcome {
    let handler = &arguments.handler;
    if arguments.common.json {
        let line = |ahead: &Ahead| {
            json!({
                "stream": ahead.stream, "to": ahead.lost.first, "was_at": ahead.acknowledged,
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
        return Ok(());
    }
    let done = if arguments.dry_run { "would be set back" } else { "was set back" };
    for one in ahead {
        let Ahead { unit, stream, lost, acknowledged } = one;
        say(&format!(
            "{unit}: its consumer of {stream} {done} from {acknowledged} to before {}: {} that \
             the database does not know",
            lost.first,
            count(one.messages(), "message"),
        ));
    }
    say(&format!(
        "{} of what they sent stand in streams already and are not sent again",
        count(i64::try_from(sent).unwrap_or(i64::MAX), "message")
    ));
    Ok(())
}
