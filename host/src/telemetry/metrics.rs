//! Prometheus metrics. Names and help texts are public; docs/OPERATING.md lists them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerLabel {
    handler: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    handler: String,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    handler: String,
    reason: String,
}

type PerHandler = Family<HandlerLabel, Counter>;

/// All metrics of a host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    received: PerHandler,
    handled: PerHandler,
    duplicates: PerHandler,
    sent: PerHandler,
    parked: Family<ReasonLabels, Counter>,
    parked_now: Family<StateLabels, Gauge>,
    waits: Family<ReasonLabels, Gauge>,
    expired_unhandled: PerHandler,
    healed: PerHandler,
    conflicts: PerHandler,
    resets: PerHandler,
    stalls: PerHandler,
    lag: Family<HandlerLabel, Gauge>,
    turn_messages: Family<HandlerLabel, Histogram, fn() -> Histogram>,
    commit_seconds: Family<HandlerLabel, Histogram, fn() -> Histogram>,
    handle_seconds: Family<HandlerLabel, Histogram, fn() -> Histogram>,
    pub published: Counter,
    pub published_again: Counter,
    pub undelivered: Counter,
    pub undelivered_now: Gauge,
    pub resent: Counter,
    pub unheard: Counter,
    pub expired: Counter,
    pub backlog: Gauge,
    pub oldest_unsent_seconds: Gauge<f64, AtomicU64>,
    pub scheduled: Gauge,
    pub takeovers: Counter,
    pub pruned: Counter,
}

/// The metrics of one handler, looked up once.
#[derive(Debug, Clone)]
pub struct HandlerMetrics {
    name: String,
    pub received: Counter,
    pub handled: Counter,
    pub duplicates: Counter,
    pub sent: Counter,
    pub conflicts: Counter,
    pub resets: Counter,
    pub stalls: Counter,
    pub lag: Gauge,
    pub turn_messages: Histogram,
    pub commit_seconds: Histogram,
    pub handle_seconds: Histogram,
    /// Messages that were past before they were handled.
    pub expired: Counter,
    pub healed: Counter,
    parked: Family<ReasonLabels, Counter>,
    parked_now: Family<StateLabels, Gauge>,
    waits: Family<ReasonLabels, Gauge>,
}

impl HandlerMetrics {
    /// The counter of messages parked for this reason.
    pub fn parked(&self, reason: &str) -> Counter {
        let labels = ReasonLabels { handler: self.name.clone(), reason: reason.to_owned() };
        self.parked.get_or_create(&labels).clone()
    }

    /// The gauge of messages that are parked in this state.
    pub fn parked_now(&self, state: &str) -> Gauge {
        let labels = StateLabels { handler: self.name.clone(), state: state.to_owned() };
        self.parked_now.get_or_create(&labels).clone()
    }

    /// The gauge that is 1 while the handler takes nothing in for this reason.
    pub fn waits(&self, reason: &str) -> Gauge {
        let labels = ReasonLabels { handler: self.name.clone(), reason: reason.to_owned() };
        self.waits.get_or_create(&labels).clone()
    }
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 12))
}

fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let mut r = Registry::with_prefix("tribox");
        let m = Metrics {
            received: add(&mut r, "received", "Messages delivered by JetStream"),
            handled: add(&mut r, "handled", "Messages handled and committed"),
            duplicates: add(&mut r, "duplicates", "Messages that had been handled before"),
            sent: add(&mut r, "sent", "Messages put into the outbox"),
            parked: add(&mut r, "parked", "Messages set aside, by reason"),
            parked_now: add(
                &mut r,
                "parked_messages",
                "Messages parked now, by state, up to 200,000",
            ),
            waits: add(&mut r, "waiting", "1 while a handler takes nothing in, by reason"),
            expired_unhandled: add(
                &mut r,
                "expired_unhandled",
                "Messages that were past before they were handled",
            ),
            healed: add(&mut r, "healed", "Messages tried again because another build came"),
            conflicts: add(&mut r, "conflicts", "Turns run again because a document changed"),
            resets: add(&mut r, "consumer_resets", "Consumers set back to keep the order"),
            stalls: add(
                &mut r,
                "stalled_consumers",
                "Consumers made anew that delivered nothing though messages waited",
            ),
            lag: add(&mut r, "lag_messages", "Messages in the streams not yet delivered"),
            turn_messages: Family::new_with_constructor(sizes),
            commit_seconds: Family::new_with_constructor(times),
            handle_seconds: Family::new_with_constructor(times),
            published: add(&mut r, "published", "Messages published to JetStream"),
            published_again: add(&mut r, "published_again", "Messages the stream already had"),
            undelivered: add(&mut r, "undelivered", "Messages no stream took, set aside"),
            undelivered_now: add(
                &mut r,
                "undelivered_messages",
                "Messages set aside now that no stream took, up to 100,000",
            ),
            resent: add(&mut r, "resent", "Undelivered messages that have arrived after all"),
            unheard: add(&mut r, "unheard_deaths", "Deaths told on a subject that no stream takes"),
            expired: add(&mut r, "expired", "Messages dropped because they had expired"),
            backlog: add(&mut r, "outbox_backlog", "Messages committed and not yet published"),
            oldest_unsent_seconds: Gauge::default(),
            scheduled: add(
                &mut r,
                "scheduled",
                "Delayed messages that wait to be due, up to 100,000",
            ),
            takeovers: add(&mut r, "takeovers", "Nodes that this one has fenced out"),
            pruned: add(&mut r, "pruned_rows", "Rows removed past their retention"),
            registry: Registry::default(),
        };
        r.register("turn_messages", "Messages in a turn", m.turn_messages.clone());
        let seconds = Unit::Seconds;
        let help = "Time of a turn's commit";
        r.register_with_unit("commit", help, seconds.clone(), m.commit_seconds.clone());
        let help = "Time of a turn in the sandbox";
        r.register_with_unit("handle", help, seconds.clone(), m.handle_seconds.clone());
        let help = "Age of the oldest message not yet published";
        r.register_with_unit("oldest_unsent", help, seconds, m.oldest_unsent_seconds.clone());
        Arc::new(Metrics { registry: r, ..m })
    }

    /// The metrics of one handler.
    pub fn handler(&self, name: &str) -> HandlerMetrics {
        let label = HandlerLabel { handler: name.to_owned() };
        HandlerMetrics {
            name: name.to_owned(),
            received: self.received.get_or_create(&label).clone(),
            handled: self.handled.get_or_create(&label).clone(),
            duplicates: self.duplicates.get_or_create(&label).clone(),
            sent: self.sent.get_or_create(&label).clone(),
            conflicts: self.conflicts.get_or_create(&label).clone(),
            resets: self.resets.get_or_create(&label).clone(),
            stalls: self.stalls.get_or_create(&label).clone(),
            lag: self.lag.get_or_create(&label).clone(),
            turn_messages: self.turn_messages.get_or_create(&label).clone(),
            commit_seconds: self.commit_seconds.get_or_create(&label).clone(),
            handle_seconds: self.handle_seconds.get_or_create(&label).clone(),
            expired: self.expired_unhandled.get_or_create(&label).clone(),
            healed: self.healed.get_or_create(&label).clone(),
            parked: self.parked.clone(),
            parked_now: self.parked_now.clone(),
            waits: self.waits.clone(),
        }
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// Formatting failed.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn add<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
