//! What a handler may take in, from second to second: parked messages that are due are handed to their
//! lanes, and an operator's pause, or too much that has piled up, closes the gate.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ports::Piles;
use crate::config::Backlog;
use crate::lane::ports::{DueParked, StoreAway};
use crate::lane::{Gate, Intake};
use crate::model::Unit;
use crate::stream::lane_of_key;
use crate::telemetry::HandlerMetrics;

/// Due parked messages that are looked up at once.
const DUE: i64 = 4_096;
/// How often what has piled up is counted.
const COUNT: Duration = Duration::from_secs(5);
/// Parked messages of one state that are counted at most, beyond what the limit asks for.
const COUNTED: i64 = 200_000;

/// The intake of one handler, or a partition of it.
pub struct Supervisor<S> {
    unit: Unit,
    handler: String,
    store: S,
    limits: Backlog,
    metrics: HandlerMetrics,
    gate: Arc<Gate>,
    due: Vec<mpsc::Sender<DueParked>>,
    paused_keys: HashSet<String>,
    next_count: Instant,
    /// Why the gate is not open; what was counted last.
    piled_up: Option<Reason>,
    closed: Option<Reason>,
}

/// Why a handler takes nothing in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reason {
    /// The label of its metric.
    word: &'static str,
    text: String,
}

impl<S: Piles> Supervisor<S> {
    pub fn new(
        unit: Unit,
        store: S,
        limits: Backlog,
        metrics: HandlerMetrics,
        gate: Arc<Gate>,
        due: Vec<mpsc::Sender<DueParked>>,
    ) -> Self {
        Supervisor {
            handler: unit.handler().to_owned(),
            unit,
            store,
            limits,
            metrics,
            gate,
            due,
            paused_keys: HashSet::new(),
            next_count: Instant::now(),
            piled_up: None,
            closed: None,
        }
    }

    /// Looks once; to be called every second.
    ///
    /// # Errors
    /// The database cannot be used; the lanes meet that, too, and show it.
    pub async fn look(&mut self) -> Result<(), StoreAway> {
        let standing = self.store.standing(&self.handler, DUE).await?;
        if self.next_count <= Instant::now() {
            self.piled_up = self.count().await?;
            self.next_count = Instant::now() + COUNT;
        }
        let paused = standing.paused_by.map(|by| Reason {
            word: "paused",
            text: format!("paused by {by}; `tribox resume {}` ends that", self.handler),
        });
        self.decide(paused);
        self.follow_paused_keys(standing.paused_keys);
        for parked in standing.due {
            self.hand_out(parked);
        }
        Ok(())
    }

    fn decide(&mut self, paused: Option<Reason>) {
        let intake = match (&paused, &self.piled_up) {
            (Some(_), _) => Intake::Closed,
            (None, Some(_)) => Intake::ParkedAlone,
            (None, None) => Intake::Open,
        };
        let reason = paused.or_else(|| self.piled_up.clone());
        let word = |reason: &Option<Reason>| reason.as_ref().map(|reason| reason.word);
        if word(&reason) != word(&self.closed) {
            let handler = &self.handler;
            if let Some(before) = &self.closed {
                self.metrics.waits(before.word).set(0);
            }
            match &reason {
                Some(reason) => {
                    self.metrics.waits(reason.word).set(1);
                    tracing::warn!(handler, "nothing is taken in: {}", reason.text);
                }
                None => tracing::info!(handler, "messages are taken in again"),
            }
        }
        self.closed = reason;
        self.gate.set(intake);
    }

    /// Counts what is parked and scheduled; why the gate is to be closed for it, if it is.
    async fn count(&self) -> Result<Option<Reason>, StoreAway> {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let limit = signed(self.limits.parked);
        let mut open = 0;
        let counted = limit.saturating_add(1).max(COUNTED);
        for (state, count) in self.store.count_parked(&self.handler, counted).await? {
            self.metrics.parked_now(&state).set(count);
            if state != "dead" {
                open += count;
            }
        }
        if open > limit {
            let text = format!(
                "{open} messages are parked; until they are fewer than [backlog] parked = {limit}, \
                 only these are tried again (`tribox parked list --handler {}`)",
                self.handler
            );
            return Ok(Some(Reason { word: "parked", text }));
        }
        let limit = signed(self.limits.scheduled);
        let scheduled =
            self.store.count_scheduled_by(&self.handler, limit.saturating_add(1)).await?;
        if scheduled > limit {
            let text = format!(
                "more than [backlog] scheduled = {limit} delayed messages wait to be due \
                 (`tribox scheduled list --handler {}`)",
                self.handler
            );
            return Ok(Some(Reason { word: "scheduled", text }));
        }
        Ok(None)
    }

    /// Tells the lanes of keys that were paused, which are held, or resumed, which are looked at.
    fn follow_paused_keys(&mut self, keys: HashSet<String>) {
        for key in keys.symmetric_difference(&self.paused_keys) {
            self.hand_out(DueParked { id: 0, key: Some(key.clone()) });
        }
        self.paused_keys = keys;
    }

    /// Hands a parked message to its lane, unless another partition has its key.
    fn hand_out(&self, parked: DueParked) {
        if !self.unit.has_key(parked.key.as_deref()) {
            return;
        }
        let lane = match &parked.key {
            Some(key) => lane_of_key(key, self.due.len()),
            None => usize::try_from(parked.id).unwrap_or_default() % self.due.len(),
        };
        // What does not fit is due again in a second.
        let _ = self.due[lane].try_send(parked);
    }
}
