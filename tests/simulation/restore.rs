//! A database that is restored to an earlier time while all nodes are down, and what an operator does
//! then: `tribox rewind`, by the rules of host/src/cli/rewind.rs.

use tribox::model::InboxKey;

use crate::check::READS;
use crate::database::Database;
use crate::handlers::description;
use crate::reader::{MOST, message_of};
use crate::seat::Seat;
use crate::world::{Inner, Rule, World, elapsed};

/// How far the clocks of Postgres and NATS may be apart: milliseconds.
const SKEW: i64 = 60_000;
/// How long after the restore consumers are set back; what was on its way has arrived by then.
const LATER: i64 = 3_000;

/// When a run saves its database, and when it goes back to that.
pub struct Restore {
    save_at: i64,
    at: i64,
    saved: Option<Database>,
    rewind_at: Option<i64>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The database is to be restored, once no node runs.
    Restore,
    /// It was, and nothing may run yet.
    Wait,
    /// Consumers are to be set back.
    Rewind,
}

impl Restore {
    /// In one of six runs; `until`: when the faults end.
    pub fn of(seed: u64, until: i64) -> Option<Restore> {
        // A chance of its own, so that runs without it stay what they were.
        let mut chance = fastrand::Rng::with_seed(seed ^ 0x5eed_0f7e_5704_ed00);
        let restores = chance.u8(0..6) == 0;
        let save_at = chance.i64(1_000..until / 2);
        let at = chance.i64(save_at + 500..until);
        restores.then_some(Restore { save_at, at, saved: None, rewind_at: None })
    }

    /// Whether the database was restored, and consumers were not set back yet.
    pub fn waits(&self) -> bool {
        self.rewind_at.is_some()
    }

    /// What is to be done now.
    fn step(&mut self, world: &mut Inner) -> Step {
        let now = elapsed();
        if let Some(rewind_at) = self.rewind_at {
            return if now >= rewind_at { Step::Rewind } else { Step::Wait };
        }
        if self.save_at != i64::MAX && now >= self.save_at {
            self.save_at = i64::MAX;
            self.saved = Some(world.database.clone());
            world.trace.note("postgres: backup");
        }
        let due = self.saved.is_some() && now >= self.at;
        if due { Step::Restore } else { Step::Nothing }
    }

    /// Goes back to an earlier database, if it is time for that: nodes are down until consumers are set
    /// back. None: that is over.
    pub fn go_on(mut self, world: &World, seats: &mut [Seat]) -> Option<Restore> {
        let step = self.step(&mut world.look());
        match step {
            Step::Nothing | Step::Wait => {}
            // One that stops in order would go on with what it knows of the later database.
            Step::Restore if seats.iter().any(|seat| seat.stopped_by > elapsed()) => {}
            Step::Restore => {
                for seat in seats {
                    seat.process = None;
                    seat.frozen_until = None;
                    seat.starts_at = None;
                }
                self.restore(&mut world.look());
            }
            Step::Rewind => {
                rewind(&mut world.look());
                seats.iter_mut().for_each(|seat| seat.starts_at = Some(elapsed()));
                return None;
            }
        }
        Some(self)
    }

    /// Goes back to what was saved. Nothing that was under way reaches the database any more.
    fn restore(&mut self, world: &mut Inner) {
        let Some(saved) = self.saved.take() else { return };
        world.tally.count("postgres: restored to an earlier time");
        world.trace.note("postgres: restored");
        world.database = saved;
        world.postgres_starts += 1;
        self.rewind_at = Some(elapsed() + LATER);
    }
}

/// `tribox rewind` of each handler.
fn rewind(world: &mut Inner) {
    let mut since = world.database.last_sign_of_life();
    for (handler, stream) in READS {
        let durable = format!("tribox-{handler}");
        let description = description(handler);
        let Some(info) = world.broker.consumer(stream, &durable).map(|c| c.info()) else {
            continue;
        };
        let Some(of) = world.broker.stream(stream) else { continue };
        let (created, name) = (of.created, of.name.clone());
        let floor = world.database.floor(handler, &name, created);
        let floor = u64::try_from(floor).unwrap_or_default();
        let messages = of_stream(world, stream);
        let to = info.delivered_stream;
        let told = messages.iter().filter(|m| m.sequence > floor && m.sequence <= to);
        let unknown: Vec<_> = told
            .map(|m| (m, InboxKey::new(handler, &message_of(&description, &name, m).0.id)))
            .filter(|(_, key)| !world.database.inbox.contains_key(key))
            .collect();
        let Some((first, _)) = unknown.first() else { continue };
        let (first, at) = (first.sequence, first.at);
        since = since.min(at);
        let filters: Vec<String> =
            description.subscriptions.iter().map(|s| s.subject.clone()).collect();
        world.tally.count("operator: consumer set back");
        world.trace.note(&format!("{handler}: {stream} set back to {first}"));
        if world.without != Some(Rule::Rewind) {
            world.broker.make_consumer(stream, &durable, &filters, first - 1, MOST);
        }
    }
    note_sent(world, since);
}

fn of_stream(world: &mut Inner, stream: &str) -> Vec<crate::broker::Stored> {
    world.broker.stream(stream).map(|s| s.messages.clone()).unwrap_or_default()
}

/// Notes what stands in the streams and would be sent once more.
fn note_sent(world: &mut Inner, since: i64) {
    let streams = world.broker.streams.iter();
    let sent: Vec<(String, i64)> = streams
        .flat_map(|stream| &stream.messages)
        .filter_map(|m| Some((m.id.clone()?, m.at)))
        .collect();
    for (id, at) in sent {
        let Some(key) = InboxKey::of_outgoing(&id) else { continue };
        let again = world.database.still_to_send(&id, key);
        let noted = world.without != Some(Rule::AlreadySent);
        if noted && again && at >= since.saturating_sub(SKEW) {
            world.database.already_sent.insert(id.clone());
        }
        // What it says was read and written is of a time that is gone.
        if !world.database.inbox.contains_key(&key) || world.database.is_parked(key) {
            world.undone.insert(id);
        }
    }
}
