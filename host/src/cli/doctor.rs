//! `tribox doctor`: what is wrong, why that may be, and the command that mends it. It looks at Postgres,
//! NATS and the plugin directory itself, so it works where no host runs. It changes nothing.

use serde::Serialize;
use serde_json::json;

use super::operate::{Common, say_json};
use super::text::{count, printable, span};
use super::{Outcome, provision, rewind, say};
use crate::config::Config;
use crate::model::Unit;
use crate::node;
use crate::store::{HandlerStatus, NodeStatus, Operator, Position};
use crate::stream::{Keeper, Nats, consumed, keepers, obstacle, plan};

/// Messages that wait longer than that to be published are worth a word: milliseconds.
const LATE: i64 = 60_000;

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    /// What it is about: a handler, a node, a stream.
    about: String,
    what: String,
    /// What to do, as a command where there is one.
    then: String,
}

pub(super) fn run(common: &Common) -> Outcome {
    let config = common.config.load()?;
    common.operate(async |operator| {
        let mut findings = Findings::default();
        let (nodes, handlers) = (operator.nodes().await?, operator.handlers().await?);
        findings.nodes(&nodes);
        handlers.iter().for_each(|handler| findings.handler(handler));
        match node::connect_nats_once(&config.nats).await {
            Ok(nats) => findings.broker(&config, operator, &nats).await?,
            Err(why) => findings.add("NATS", &why.to_string(), "see that it runs, and try again"),
        }
        findings.report(common)
    })
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, about: &str, what: &str, then: &str) {
        let text = |text: &str| printable(text);
        self.0.push(Finding { about: text(about), what: text(what), then: text(then) });
    }

    fn nodes(&mut self, nodes: &[NodeStatus]) {
        let runs = |node: &&NodeStatus| !node.clean && node.lease_ms >= 0;
        if !nodes.iter().any(|node| runs(&node)) {
            self.add("hosts", "no host runs: nothing is handled and published", "tribox serve");
        }
        for node in nodes.iter().filter(|node| !node.clean && node.lease_ms < 0) {
            let what = format!(
                "its lease is over since {} ({}), and no other host has taken over from it",
                span(-node.lease_ms),
                node.holder
            );
            self.add(&format!("node {}", node.name), &what, "start it again, or another host");
        }
    }

    fn handler(&mut self, handler: &HandlerStatus) {
        let name = &handler.handler;
        let about = format!("handler {name}");
        if let Some(by) = &handler.paused_by {
            let what = format!("it is paused, by {by}");
            self.add(&about, &what, &format!("tribox resume {name}"));
        }
        let dead = handler.dead + handler.holding;
        if dead > 0 {
            let what = format!("{} could not be handled", count(dead, "message"));
            self.add(&about, &what, &format!("tribox parked list --handler {name}"));
        }
        if handler.undelivered > 0 {
            let what = format!("no stream takes {}", count(handler.undelivered, "message"));
            let then = format!("tribox undelivered list --handler {name}");
            self.add(&about, &what, &then);
        }
        if let Some(age) = handler.oldest_unsent_ms.filter(|age| *age > LATE) {
            let what = format!(
                "{} wait to be published, the oldest since {}: no host runs that may, or its stream \
                 refuses it (it is full, say)",
                count(handler.unpublished, "message"),
                span(age)
            );
            self.add(&about, &what, "look at the log and /readyz of the hosts");
        }
    }

    /// What shows in the streams and consumers alone.
    async fn broker(
        &mut self,
        config: &Config,
        operator: &Operator,
        nats: &Nats,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let streams = keepers(nats).await?;
        let positions = operator.positions().await?;
        for position in &positions {
            self.position(nats, &streams, position).await?;
        }
        let units = positions.iter().filter_map(|position| Unit::parse(&position.handler));
        let mut handlers: Vec<String> = units.map(|unit| unit.handler().to_owned()).collect();
        handlers.sort_unstable();
        handlers.dedup();
        for handler in &handlers {
            for ahead in
                rewind::ahead(config, operator, nats, handler, &streams, rewind::To::Acknowledged)
                    .await?
            {
                let what = format!(
                    "JetStream was told that {} of {} were handled that the database does not \
                     know: it was restored to an earlier time, or somebody else acknowledged",
                    count(ahead.messages(), "message"),
                    ahead.stream
                );
                let then = format!("tribox rewind {handler}");
                self.add(&format!("handler {handler}"), &what, &then);
            }
        }
        self.plugins(config, nats).await
    }

    async fn position(
        &mut self,
        nats: &Nats,
        streams: &[Keeper],
        position: &Position,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let Position { handler, stream, handled, .. } = position;
        let about = format!("handler {handler}");
        let Some(found) = streams.iter().find(|keeper| keeper.stream == *stream) else {
            let what = format!("stream {stream}, which it has read, is gone");
            self.add(&about, &what, "tribox provision, or restore it");
            return Ok(());
        };
        let Some(unit) = Unit::parse(handler) else { return Ok(()) };
        let Some(consumed) = consumed(nats, stream, &unit).await? else {
            let what = format!("its consumer of {stream} is gone");
            let then = "tribox serve makes it anew where the database stands; without keys at the \
                        beginning of the stream";
            self.add(&about, &what, then);
            return Ok(());
        };
        let last = i64::try_from(found.last).unwrap_or(i64::MAX);
        if consumed.stream_created == position.stream_created && *handled > last {
            let what = format!(
                "stream {stream} ends at {last}, and it has handled up to {handled}: the stream has \
                 lost its end. What comes anew is told from the old by its id"
            );
            self.add(&about, &what, "tribox relay --missing, for what was published to streams");
        }
        Ok(())
    }

    async fn plugins(
        &mut self,
        config: &Config,
        nats: &Nats,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let catalog = match provision::catalog(config) {
            Ok(catalog) => catalog,
            Err(why) => {
                self.add("plugins", &why.to_string(), "set [plugins] directory");
                return Ok(());
            }
        };
        for refused in &catalog.refused {
            self.add("plugins", &refused.error.to_string(), "tribox check FILE");
        }
        let handlers = provision::descriptions(&catalog);
        for handler in handlers.iter().filter(|handler| handler.keyed()) {
            let partitions = config.handler(&handler.name).partitions;
            if let Some(why) = obstacle(nats, handler, partitions).await? {
                let about = format!("handler {}", handler.name);
                self.add(&about, &why, "see Partitions in docs/OPERATING.md");
            }
        }
        for change in plan(nats, &handlers).await? {
            let what =
                format!("no stream takes {} ({})", change.subjects.join(", "), change.because);
            self.add("streams", &what, "tribox provision");
        }
        Ok(())
    }

    fn report(&self, common: &Common) -> Outcome {
        if common.json {
            say_json(&json!({ "findings": self.0 }))?;
        } else {
            for Finding { about, what, then } in &self.0 {
                say(&format!("{about}: {what}\n    → {then}"));
            }
        }
        match i64::try_from(self.0.len()).unwrap_or(i64::MAX) {
            0 if common.json => Ok(()),
            0 => {
                say("nothing is wrong");
                Ok(())
            }
            found => Err(format!("{} to look at", count(found, "thing")).into()),
        }
    }
}
