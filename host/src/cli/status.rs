//! `tribox status`: nodes, handlers, who works on what, what waits, and how far streams were handled. From
//! the servers, so that it works where no host runs; where NATS does not answer, without what waits there.

use std::time::Duration;

use serde_json::json;

use super::operate::{Common, say_json};
use super::text::{count, short, span, table};
use super::{Outcome, say};
use crate::config::Config;
use crate::model::{Unit, rules};
use crate::node;
use crate::store::{HandlerStatus, NodeStatus, PausedKey, Position, UnitStatus};
use crate::stream::{Nats, consumed};

/// Paused keys that are looked up, and shown to people.
const KEYS: i64 = 10_000;
const SHOWN: usize = 20;
/// How long NATS may take to say what waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What JetStream knows of a consumer.
#[derive(Debug, Clone, Copy)]
struct Lag {
    /// Messages that were not delivered yet, and those that were and are not acknowledged.
    waiting: u64,
    in_hand: u64,
}

pub(super) fn run(common: &Common) -> Outcome {
    let config = common.config.load()?;
    common.operate(async |operator| {
        let nodes = operator.nodes().await?;
        let handlers = operator.handlers().await?;
        let paused_keys = operator.paused_keys(KEYS).await?;
        let units = operator.units().await?;
        let positions = operator.positions().await?;
        let lags = tokio::time::timeout(PATIENCE, lags(&config, &positions)).await;
        let lags = lags.unwrap_or_else(|_| vec![None; positions.len()]);
        if common.json {
            let nodes: Vec<_> = nodes.iter().map(with_state).collect();
            return say_json(&json!({
                "nodes": nodes, "handlers": handlers, "paused_keys": paused_keys,
                "units": units,
                "positions": positions.iter().zip(&lags).map(with_lag).collect::<Vec<_>>(),
            }));
        }
        say(&node_table(&nodes));
        say(&handler_table(&handlers));
        if let Some(paused) = paused(&handlers, &paused_keys) {
            say(&paused);
        }
        say(&unit_table(&units));
        say(&position_table(&positions, &lags));
        Ok(())
    })
}

/// What waits for each of the positions, where that can be said.
async fn lags(config: &Config, positions: &[Position]) -> Vec<Option<Lag>> {
    let mut lags = vec![None; positions.len()];
    if let Ok(nats) = node::connect_nats_once(&config.nats).await {
        for (lag, position) in lags.iter_mut().zip(positions) {
            *lag = lag_of(&nats, position).await;
        }
    }
    lags
}

async fn lag_of(nats: &Nats, position: &Position) -> Option<Lag> {
    let unit = Unit::parse(&position.handler)?;
    let consumed = consumed(nats, &position.stream, &unit).await.ok()??;
    Some(Lag { waiting: consumed.pending, in_hand: consumed.in_hand })
}

fn state(node: &NodeStatus) -> &'static str {
    match (node.clean, node.fenced_by.is_some(), node.lease_ms >= 0) {
        (true, true, _) => "fenced out",
        (true, false, _) => "stopped",
        (false, _, true) => "running",
        // Its lease is over, and no other node runs that could have noticed.
        (false, _, false) => "silent",
    }
}

fn with_state(node: &NodeStatus) -> serde_json::Value {
    let NodeStatus { name, epoch, holder, started, seen_ms, lease_ms, fenced_by, .. } = node;
    json!({
        "name": name, "state": state(node), "epoch": epoch, "holder": holder, "started": started,
        "seen_ms": seen_ms, "lease_ms": lease_ms, "fenced_by": fenced_by,
    })
}

fn with_lag((position, lag): (&Position, &Option<Lag>)) -> serde_json::Value {
    let Position { handler, stream, stream_created, handled, floor } = position;
    json!({
        "handler": handler, "stream": stream, "stream_created": stream_created,
        "handled": handled, "floor": floor, "waiting": lag.map(|lag| lag.waiting),
        "in_hand": lag.map(|lag| lag.in_hand),
    })
}

/// A heading and rows as a table, or a line that says that there are none.
fn or_none(heading: &[&str], rows: Vec<Vec<String>>, none: &str) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    let mut all = vec![heading.iter().map(|name| (*name).to_owned()).collect()];
    all.extend(rows);
    table(&all)
}

fn node_table(nodes: &[NodeStatus]) -> String {
    let row = |node: &NodeStatus| {
        let seen = format!("{} ago", span(node.seen_ms));
        let (name, epoch) = (short(&node.name, 63), node.epoch.to_string());
        let running = state(node) == "running";
        let lease = if running { span(node.lease_ms) } else { "-".to_owned() };
        vec![name, state(node).to_owned(), seen, lease, epoch, short(&node.holder, 60)]
    };
    let heading = ["node", "state", "seen", "lease", "epoch", "holder"];
    or_none(&heading, nodes.iter().map(row).collect(), "no host has run on this database yet")
}

fn handler_table(handlers: &[HandlerStatus]) -> String {
    let row = |h: &HandlerStatus| {
        let build = h.version.as_deref().zip(h.digest.as_deref());
        let build = build.map(|(version, digest)| {
            format!("{} ({})", short(version, 20), rules::shorten_to(digest, 8))
        });
        vec![
            short(&h.handler, 63),
            build.unwrap_or_else(|| "-".to_owned()),
            if h.nodes.is_empty() { "-".to_owned() } else { short(&h.nodes.join(" "), 60) },
            h.retrying.to_string(),
            h.waiting.to_string(),
            h.holding.to_string(),
            h.dead.to_string(),
            h.scheduled.to_string(),
            h.undelivered.to_string(),
            h.unpublished.to_string(),
            h.oldest_unsent_ms.map_or_else(|| "-".to_owned(), span),
            if h.paused_by.is_some() { "paused".to_owned() } else { String::new() },
        ]
    };
    let heading = [
        "handler",
        "newest build",
        "works on",
        "retrying",
        "waiting",
        "holding",
        "dead",
        "scheduled",
        "undelivered",
        "unpublished",
        "oldest",
        "",
    ];
    or_none(&heading, handlers.iter().map(row).collect(), "no handler has run yet")
}

fn paused(handlers: &[HandlerStatus], keys: &[PausedKey]) -> Option<String> {
    let handler = |h: &HandlerStatus| {
        let (by, at) = (h.paused_by.as_deref()?, h.paused_at.as_deref()?);
        Some(format!("paused: handler {}, by {}, {at}", short(&h.handler, 63), short(by, 60)))
    };
    let key = |k: &PausedKey| {
        let (key, handler) = (short(&k.key, 60), short(&k.handler, 63));
        let (by, behind) = (short(&k.paused_by, 80), count(k.behind, "message"));
        format!("paused: key '{key}' of {handler}, {behind} behind, {by}, {}", k.paused_at)
    };
    let mut lines: Vec<String> = handlers.iter().filter_map(handler).collect();
    lines.extend(keys.iter().take(SHOWN).map(key));
    if keys.len() > SHOWN {
        lines.push(format!("… and {} more (--json)", count(more(keys.len()), "paused key")));
    }
    (!lines.is_empty()).then(|| lines.join("\n") + "\n")
}

fn more(keys: usize) -> i64 {
    i64::try_from(keys - SHOWN).unwrap_or(i64::MAX)
}

fn unit_table(units: &[UnitStatus]) -> String {
    let row = |u: &UnitStatus| vec![short(&u.unit, 63), short(&u.node, 63), u.since.clone()];
    let none = "no node has a handler with keys";
    or_none(&["handler with keys", "node", "since"], units.iter().map(row).collect(), none)
}

fn position_table(positions: &[Position], lags: &[Option<Lag>]) -> String {
    let row = |(p, lag): (&Position, &Option<Lag>)| {
        let (handled, floor) = (p.handled.to_string(), p.floor.to_string());
        let lag =
            |what: fn(&Lag) -> u64| lag.as_ref().map_or("-".to_owned(), |l| what(l).to_string());
        let (waiting, in_hand) = (lag(|l| l.waiting), lag(|l| l.in_hand));
        vec![short(&p.handler, 63), short(&p.stream, 63), handled, floor, waiting, in_hand]
    };
    let heading = ["handler", "stream", "handled up to", "without a gap", "waiting", "in hand"];
    let rows = positions.iter().zip(lags).map(row).collect();
    or_none(&heading, rows, "nothing was handled yet")
}
