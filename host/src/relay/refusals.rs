//! Messages that a stream refuses: tried again while that may help, and set aside where it cannot.

use tokio::time::Instant;

use super::jobs::{Done, Judgement, Undeliverable, set_undelivered};
use super::ports::{Outbox, Outgoing, Streams};
use super::task::RelayTask;
use crate::model::identity::announces_death;
use crate::stream::Refusal;

/// How often a subject is refused before its message is looked at for being undeliverable.
const REFUSALS: u32 = 6;
/// Codes of JetStream that no waiting mends: the message is larger than its stream takes.
const FOR_GOOD: [u64; 1] = [10_054];

impl<S: Outbox, N: Streams, P: Outgoing> RelayTask<S, N, P> {
    pub(super) fn refused(&mut self, writer: i32, seq: i64, refusal: &Refusal) {
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        let Some(entry) = relayed.log.entry(seq).cloned() else { return };
        let Some(refused) = relayed.log.refused(seq, Instant::now()) else { return };
        let what = match refusal {
            Refusal::NoStream => "no stream answers".to_owned(),
            Refusal::Denied(why) => format!("{why}; grant it to the user that tribox connects as"),
            Refusal::Server { code, description } => format!("{description} (code {code})"),
        };
        if announces_death(&entry.id) && !matches!(refusal, Refusal::Server { .. }) {
            // Told to whoever listens; it is kept only where a stream takes it.
            self.metrics.unheard.inc();
            relayed.log.set_aside(seq, Instant::now());
            return relayed.note();
        }
        if refused.refusals == 1 {
            tracing::warn!(
                subject = entry.subject,
                message_id = entry.id,
                "message was not taken and is tried again: {what}"
            );
        }
        match refusal {
            Refusal::Server { code, .. } if FOR_GOOD.contains(code) => {
                self.set_aside(writer, seq, Undeliverable::too_large(what));
            }
            Refusal::Denied(_) if refused.refusals >= REFUSALS => {
                self.set_aside(writer, seq, Undeliverable::denied(what));
            }
            Refusal::NoStream if refused.refusals >= REFUSALS => {
                let (nats, store) = (self.nats.clone(), self.store.clone());
                self.jobs.push(Box::pin(async move {
                    let subject = &entry.subject;
                    let verdict = match nats.has_stream(subject).await {
                        Ok(false) => {
                            let why = Undeliverable::no_stream(subject);
                            set_undelivered(&store, writer, seq, why).await
                        }
                        _ => Judgement::TryAgain,
                    };
                    Done::Judged { writer, seq, verdict }
                }));
            }
            _ => {}
        }
    }

    /// Writes an entry down as undeliverable; it is out of the way once that is committed.
    pub(super) fn set_aside(&mut self, writer: i32, seq: i64, why: Undeliverable) {
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let verdict = set_undelivered(&store, writer, seq, why).await;
            Done::Judged { writer, seq, verdict }
        }));
    }
}
