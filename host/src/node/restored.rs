//! Noticing a database that was restored to an earlier time. JetStream is told that a message was handled
//! only after the commit; so where a consumer was told so of a message that the inbox does not know, the
//! database has lost the commit, or somebody else has acknowledged it. Going on would leave that message
//! out of the state for good.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clock::SystemClock;
use super::{Ousted, Shared};
use crate::lane::ports::{Clock as _, StoreAway};
use crate::model::{InboxKey, Unit};
use crate::store::Inbox;
use crate::stream::{Consumed, Nats, NatsError, Passed, Passing, StreamInfo, consumed};

/// Of handlers without keys, which acknowledge in no order: how far behind the last message that was
/// handled it is looked.
const BEHIND: u64 = 20_000;
/// How far the clocks of Postgres and NATS may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// How often a handler that was stopped looks whether its consumer was set back.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a stream that cannot be read back is tried before its handler goes on without.
const TRIES: u32 = 3;

/// What the database lacks of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The first message that the consumer was told was handled, and that the database does not know.
    pub first: u64,
    /// Milliseconds since the Unix epoch: when it was stored.
    pub stored_at: u64,
    /// All of them, where they were asked for.
    pub keys: Vec<InboxKey>,
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error(transparent)]
    Store(#[from] StoreAway),
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// What is compared.
#[derive(Debug)]
pub struct Compare<'a> {
    pub handler: &'a str,
    /// How far the stream was handled by the database, the highest and without a gap.
    pub position: Option<(i64, i64)>,
    pub keyed: bool,
    pub consumed: &'a Consumed,
    /// The last message that is compared.
    pub to: u64,
    /// What was stored before this time may have been handled and forgotten since.
    pub remembered_since: u64,
    /// Whether all that is lost is wanted, and not the first alone.
    pub all: bool,
}

/// Compares what a consumer was told with what the inbox knows, from where the database knows that all was
/// handled. Of a stream that removes what was consumed there is nothing to compare.
///
/// # Errors
/// One of the two cannot be read.
pub async fn compare(
    nats: &Nats,
    stream: &str,
    what: &Compare<'_>,
    inbox: &impl Inbox,
) -> Result<Option<Lost>, Unknown> {
    if !what.consumed.kept {
        return Ok(None);
    }
    let unsigned = |n: i64| u64::try_from(n).unwrap_or_default();
    let (handled, floor) = what.position.map_or((0, 0), |(h, f)| (unsigned(h), unsigned(f)));
    let from = if what.keyed { floor } else { handled.saturating_sub(BEHIND) };
    let filters = &what.consumed.filters;
    let mut passing = Passing::open(nats, stream, filters, from, what.to).await?;
    let mut lost: Option<Lost> = None;
    loop {
        let some = passing.some().await?;
        if some.is_empty() {
            return Ok(lost);
        }
        let key = |passed: &Passed| InboxKey::new(what.handler, &passed.id);
        let keys: Vec<InboxKey> = some.iter().map(key).collect();
        let known = inbox.known(&keys).await?;
        for (passed, key) in some.iter().zip(keys) {
            // What is older than the inbox's memory and was handled by the positions is not judged.
            let forgotten = passed.stored_at < what.remembered_since && passed.sequence <= handled;
            if forgotten || known.contains(&key) {
                continue;
            }
            let (first, stored_at) = (passed.sequence, passed.stored_at);
            let lost = lost.get_or_insert_with(|| Lost { first, stored_at, keys: Vec::new() });
            lost.keys.push(key);
        }
        if lost.is_some() && !what.all {
            return Ok(lost);
        }
    }
}

/// Since when the inbox remembers all: milliseconds since the Unix epoch.
pub fn remembered_since(retention: Duration) -> u64 {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let since = SystemClock.unix_millis().saturating_sub(millis(retention));
    since.saturating_add(millis(SKEW))
}

/// Which streams of a handler may be read.
#[derive(Default)]
pub struct Watch {
    /// What was noticed of the database last, and whether streams that are read are to be judged for it.
    suspicion: u64,
    alarmed: bool,
    stopped: BTreeMap<String, Instant>,
    failures: u32,
}

impl Watch {
    /// Whether the database may be another one than before.
    pub fn alarmed(&mut self, shared: &Shared) -> bool {
        let now = shared.suspicion.load(Ordering::Acquire);
        self.alarmed |= std::mem::replace(&mut self.suspicion, now) != now;
        self.alarmed
    }

    /// Looks at a stream that is read after an alarm: where the database has lost something the node
    /// begins anew, because nothing that it has in memory is right any more.
    pub async fn look_at(
        &mut self,
        shared: &Shared,
        unit: &Unit,
        keyed: bool,
        stream: &StreamInfo,
    ) {
        match judge(shared, unit, keyed, stream).await {
            Ok(None) => {}
            Ok(Some(_)) => {
                let why = "the database was restored to an earlier time; this node begins anew";
                let _ = shared.lost.send(Ousted::Lease(why.to_owned()));
            }
            // The alarm goes on.
            Err(_) => self.failures += 1,
        }
    }

    /// Every stream that is read was looked at.
    pub fn looked(&mut self) {
        self.alarmed = std::mem::take(&mut self.failures) > 0;
    }

    /// Whether a handler may begin to read a stream; says so where it may not.
    pub async fn allows(
        &mut self,
        shared: &Shared,
        unit: &Unit,
        keyed: bool,
        stream: &StreamInfo,
    ) -> bool {
        let (handler, name) = (unit.handler(), &stream.name);
        let part = format!("stream {name} of {unit}");
        if self.stopped.get(name).is_some_and(|again| Instant::now() < *again) {
            return false;
        }
        match judge(shared, unit, keyed, stream).await {
            Ok(None) => {
                self.failures = 0;
                if self.stopped.remove(name).is_some() {
                    shared.health.back(&part);
                }
                self.know_what_was_sent(shared).await
            }
            Ok(Some(Lost { first, .. })) => {
                self.stopped.insert(name.clone(), Instant::now() + AGAIN);
                let why = format!(
                    "the database was restored to an earlier time, or somebody else acknowledged \
                     for this handler: JetStream was told that message {first} of {name} was \
                     handled, and the database does not know it. Nothing is read; `tribox rewind \
                     {handler}` sets the consumer back"
                );
                shared.health.away(&part, &why);
                false
            }
            Err(Unknown::Store(why)) => {
                shared.health.away("postgres", &why.to_string());
                false
            }
            Err(Unknown::Nats(why)) => {
                self.failures += 1;
                if self.failures < TRIES {
                    return false;
                }
                self.failures = 0;
                tracing::warn!(
                    handler,
                    stream = name,
                    "whether the database knows all that was handled is not known: {why}"
                );
                self.know_what_was_sent(shared).await
            }
        }
    }

    /// Before anything is handled: whether a consumer was set back.
    async fn know_what_was_sent(&self, shared: &Shared) -> bool {
        match shared.store.any_already_sent().await {
            Ok(some) => {
                shared.relay.be_wary(some);
                true
            }
            Err(why) => {
                shared.health.away("postgres", &why.to_string());
                false
            }
        }
    }
}

async fn judge(
    shared: &Shared,
    unit: &Unit,
    keyed: bool,
    stream: &StreamInfo,
) -> Result<Option<Lost>, Unknown> {
    let name = &stream.name;
    // The consumer first: what it was told by now is in the database by now.
    let Some(consumed) = consumed(&shared.nats, name, unit).await? else { return Ok(None) };
    let what = Compare {
        handler: unit.handler(),
        position: shared.store.position(&unit.to_string(), name, stream.created).await?,
        keyed,
        consumed: &consumed,
        to: consumed.acknowledged,
        remembered_since: remembered_since(shared.config.retention.inbox),
        all: false,
    };
    compare(&shared.nats, name, &what, &shared.store).await
}
