//! A small transactional model of the database: what each function of host/migrations and each statement
//! of host/sql does, one at a time. Times are milliseconds since the Unix epoch, by its own clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribox::lane::ports::{
    Commit, CommitError, DueParked, Load, LoadedState, LogState, ParkedMessage, ParkedState,
    Parking, Row, Scheduled,
};
use tribox::model::{Due, InboxKey, MENDED_BY_A_BUILD, Message};
use tribox::store::{Buried, Claim, Fate, LeftLog, LoggedEntry, OpenLog, OpenedWriter, Standing};

use crate::world::{EPOCH, Rule, elapsed};

/// What a commit did, for those who check afterwards.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "shown with a run")]
pub struct Done {
    /// When, and into which log, up to which entry.
    pub at: i64,
    pub writer: i32,
    pub last: Option<i64>,
    pub handler: String,
    /// Messages in the order in which the turn had them.
    pub handled: Vec<InboxKey>,
}

#[derive(Debug, Clone)]
struct Stored {
    version: i64,
    body: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
pub struct Writer {
    pub node: String,
    pub handler: String,
    pub lane: i32,
    fence: i64,
    lanes: i32,
    pub published: i64,
}

#[derive(Debug, Clone)]
struct NodeRow {
    epoch: i64,
    seen: i64,
    lease_until: i64,
    lease_ms: i64,
    steady_since: i64,
    beats: i64,
    fenced_by: Option<String>,
    holder: String,
    clean: bool,
    crashes: Vec<i64>,
}

#[derive(Debug, Clone)]
pub struct Parked {
    pub handler: String,
    pub state: ParkedState,
    attempts: i32,
    next_attempt_at: Option<i64>,
    pub reason: &'static str,
    pub error: String,
    component: i32,
    pub inbox_key: InboxKey,
    pub message: Message,
}

#[derive(Debug, Clone)]
struct Waiting {
    due_at: i64,
    handler: String,
    scheduled: Scheduled,
}

#[derive(Debug, Clone)]
struct Undelivered {
    position: i64,
    entry: LoggedEntry,
    reason: String,
    attempts: i32,
    retry_at: Option<i64>,
    resent: Option<(i32, i64)>,
}

#[derive(Debug, Default)]
pub struct Database {
    documents: BTreeMap<(String, String), Stored>,
    pub inbox: BTreeMap<InboxKey, i64>,
    pub writers: BTreeMap<i32, Writer>,
    pub outbox: BTreeMap<(i32, i64), LoggedEntry>,
    nodes: BTreeMap<String, NodeRow>,
    owners: BTreeMap<String, (String, i64)>,
    scheduled: BTreeMap<String, Waiting>,
    pub parked: BTreeMap<i64, Parked>,
    next_parked: i64,
    undelivered: BTreeMap<String, Undelivered>,
    next_undelivered: i64,
    in_hand: BTreeMap<String, Vec<InboxKey>>,
    suspects: BTreeMap<InboxKey, i32>,
    floors: BTreeMap<(String, String, i64), i64>,
    pub history: Vec<Done>,
    without: Option<Rule>,
}

/// The time by the clock of Postgres.
pub fn now() -> i64 {
    EPOCH + elapsed()
}

fn fenced(why: String) -> CommitError {
    CommitError::Fenced(why)
}

impl Database {
    /// One that breaks a rule.
    pub fn without(without: Option<Rule>) -> Database {
        Database { without, ..Database::default() }
    }

    fn new_fence(old: i64) -> i64 {
        (old + 1).max(now() * 1_000)
    }

    pub fn last_of(&self, writer: i32) -> i64 {
        let published = self.writers.get(&writer).map_or(0, |w| w.published);
        let range = (writer, 0)..=(writer, i64::MAX);
        let last = self.outbox.range(range).next_back().map_or(0, |((_, seq), _)| *seq);
        published.max(last)
    }

    fn open_end(&self, writer: i32) -> bool {
        self.writers.get(&writer).is_some_and(|w| self.last_of(writer) > w.published)
    }

    // ---- nodes and leases

    pub fn register(&mut self, name: &str, holder: &str, lease: Duration) -> (i64, i32) {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let was_clean = self.nodes.get(name).is_none_or(|n| n.clean);
        if !was_clean {
            self.note_crash(name);
        }
        self.in_hand.remove(name);
        for writer in self.writers.values_mut().filter(|w| w.node == name) {
            writer.fence = Self::new_fence(writer.fence);
        }
        let before = self.nodes.get(name).map(|n| (n.epoch, n.crashes.clone(), n.beats));
        let (epoch, crashes, beats) = before.unwrap_or_default();
        let crashed = crashes.iter().filter(|at| **at > now() - 3_600_000).count();
        let row = NodeRow {
            epoch: epoch + 1,
            seen: now(),
            lease_until: now() + lease_ms,
            lease_ms,
            steady_since: now(),
            beats,
            fenced_by: None,
            holder: holder.to_owned(),
            clean: false,
            crashes,
        };
        self.nodes.insert(name.to_owned(), row);
        (epoch + 1, i32::try_from(crashed).unwrap_or(i32::MAX))
    }

    fn note_crash(&mut self, name: &str) {
        let hand = self.in_hand.get(name).cloned().unwrap_or_default();
        let alone = i32::from(hand.len() == 1);
        for key in hand {
            let parked = self.parked.values().any(|p| p.inbox_key == key);
            if !self.inbox.contains_key(&key) || parked {
                self.suspects.entry(key).and_modify(|n| *n += alone).or_insert(0);
            }
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.crashes.insert(0, now());
        }
    }

    pub fn heartbeat(&mut self, name: &str, epoch: i64, lease: Duration) -> Option<i64> {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let node = self.nodes.get_mut(name).filter(|n| n.epoch == epoch)?;
        if node.lease_until < now() {
            node.steady_since = now();
        }
        node.seen = now();
        node.lease_until = now() + lease_ms;
        node.beats += 1;
        Some(node.beats)
    }

    pub fn bury(&mut self, name: &str, epoch: i64) -> Vec<Buried> {
        let Some(me) = self.nodes.get(name) else { return Vec::new() };
        if me.epoch != epoch || me.lease_until < now() {
            return Vec::new();
        }
        let steady = me.steady_since;
        let dead = |(other, n): &(&String, &NodeRow)| {
            *other != name && !n.clean && n.lease_until < now() && steady <= now() - n.lease_ms
        };
        let dead: Vec<String> =
            self.nodes.iter().filter(dead).map(|(name, _)| name.clone()).collect();
        let mut buried = Vec::new();
        for other in dead {
            self.note_crash(&other);
            self.in_hand.remove(&other);
            for writer in self.writers.values_mut().filter(|w| w.node == other) {
                writer.fence = Self::new_fence(writer.fence);
            }
            let Some(node) = self.nodes.get_mut(&other) else { continue };
            node.epoch += 1;
            node.clean = true;
            node.fenced_by = Some(name.to_owned());
            let silent = u64::try_from(now() - node.seen).unwrap_or_default();
            let silent = Duration::from_millis(silent);
            buried.push(Buried { name: other, holder: node.holder.clone(), silent });
        }
        let left: Vec<i32> = self
            .writers
            .iter()
            .filter(|(_, w)| w.node != name && self.nodes.get(&w.node).is_some_and(|n| n.clean))
            .map(|(id, _)| *id)
            .filter(|id| self.open_end(*id))
            .collect();
        for id in left {
            if let Some(writer) = self.writers.get_mut(&id) {
                name.clone_into(&mut writer.node);
                writer.lane = -id;
                writer.fence = Self::new_fence(writer.fence);
            }
        }
        buried
    }

    pub fn fate(&self, name: &str, epoch: i64) -> Fate {
        match self.nodes.get(name) {
            Some(NodeRow { fenced_by: Some(by), .. }) => Fate::Buried { by: by.clone() },
            Some(node) if node.epoch == epoch => Fate::Standing,
            Some(node) if node.epoch > epoch => Fate::NameTaken { holder: node.holder.clone() },
            _ => Fate::Unknown,
        }
    }

    pub fn end_node(&mut self, name: &str, epoch: i64) {
        if let Some(node) = self.nodes.get_mut(name).filter(|n| n.epoch == epoch) {
            node.clean = true;
        }
    }

    fn in_force(&self, node: &str, epoch: i64) -> bool {
        self.nodes.get(node).is_some_and(|n| n.epoch == epoch && !n.clean)
    }

    pub fn claim(&mut self, name: &str, epoch: i64, unit: &str) -> Result<Claim, String> {
        let held = self.owners.get(unit).cloned();
        if let Some((node, at)) = &held
            && self.in_force(node, *at)
        {
            if node == name && *at == epoch {
                return Ok(Claim::Owned { crashes: 0 });
            }
            return Ok(Claim::Held { by: node.clone() });
        }
        if !self.in_force(name, epoch) {
            return Err(format!("node {name} is no longer at epoch {epoch}"));
        }
        let crashes = held.map_or(0, |(node, _)| {
            let node = self.nodes.get(&node).filter(|n| n.fenced_by.is_some());
            node.map_or(0, |n| n.crashes.iter().filter(|at| **at > now() - 3_600_000).count())
        });
        self.owners.insert(unit.to_owned(), (name.to_owned(), epoch));
        for writer in self.writers.values_mut().filter(|w| w.handler == unit) {
            writer.fence = Self::new_fence(writer.fence);
        }
        Ok(Claim::Owned { crashes: i32::try_from(crashes).unwrap_or(i32::MAX) })
    }

    pub fn release(&mut self, unit: &str, name: &str, epoch: i64) {
        if self.owners.get(unit).is_some_and(|(node, at)| node == name && *at == epoch) {
            self.owners.remove(unit);
        }
    }

    pub fn suspects(&self) -> HashMap<InboxKey, i32> {
        self.suspects.iter().map(|(key, alone)| (*key, *alone)).collect()
    }

    pub fn note_in_hand(&mut self, node: &str, keys: Vec<InboxKey>) {
        self.in_hand.insert(node.to_owned(), keys);
    }

    pub fn forget_suspects(&mut self, keys: &[InboxKey]) {
        self.suspects.retain(|key, _| !keys.contains(key));
    }

    // ---- logs

    pub fn open_writer(
        &mut self,
        (name, epoch): (&str, i64),
        handler: &str,
        lane: i32,
        lanes: i32,
        owned: bool,
    ) -> Result<OpenedWriter, String> {
        let standing = self.nodes.get(name).is_some_and(|n| n.epoch == epoch);
        let owns = || self.owners.get(handler).is_some_and(|(n, at)| n == name && *at == epoch);
        if !standing || (owned && !owns()) {
            return Err(format!("node {name} at epoch {epoch} may not write for {handler}"));
        }
        let there = self
            .writers
            .iter()
            .find(|(_, w)| w.node == name && w.handler == handler && w.lane == lane)
            .map(|(id, _)| *id);
        let id = there.unwrap_or_else(|| {
            let id = self.writers.keys().next_back().copied().unwrap_or_default() + 1;
            let (node, handler) = (name.to_owned(), handler.to_owned());
            let writer = Writer { node, handler, lane, fence: 0, lanes, published: 0 };
            self.writers.insert(id, writer);
            id
        });
        let last = self.last_of(id);
        let writer = self.writers.get_mut(&id).ok_or("no such log")?;
        writer.lanes = lanes;
        writer.fence = Self::new_fence(writer.fence);
        Ok(OpenedWriter { id, fence: writer.fence, published: writer.published, last })
    }

    pub fn writer_state(&self, writer: i32) -> LogState {
        let published = self.writers.get(&writer).map_or(0, |w| w.published);
        LogState { last: self.last_of(writer), published }
    }

    pub fn own_logs(&self, name: &str, inherited: bool) -> Vec<OpenLog> {
        let mine = |(id, w): &(&i32, &Writer)| {
            w.node == name && (w.lane < 0 || !inherited) && self.open_end(**id)
        };
        let log = |(id, w): (&i32, &Writer)| OpenLog {
            writer: *id,
            published: w.published,
            last: self.last_of(*id),
        };
        self.writers.iter().filter(mine).map(log).collect()
    }

    pub fn left_logs(&self, handler: &str, name: &str) -> Vec<LeftLog> {
        let left = |(id, w): &(&i32, &Writer)| {
            w.handler == handler && !(w.node == name && w.lane >= 0) && self.open_end(**id)
        };
        let log = |(id, w): (&i32, &Writer)| LeftLog { writer: *id, node: w.node.clone() };
        if !self.keeps(Rule::LeftLogs) {
            return Vec::new();
        }
        self.writers.iter().filter(left).map(log).collect()
    }

    pub fn moved_logs(&self, name: &str, handler: &str, lanes: i32) -> Vec<i32> {
        let moved = |(id, w): &(&i32, &Writer)| {
            w.node == name && w.handler == handler && w.lanes != lanes && self.open_end(**id)
        };
        self.writers.iter().filter(moved).map(|(id, _)| *id).collect()
    }

    pub fn read_log(&self, writer: i32, after: i64, limit: i64) -> Vec<LoggedEntry> {
        let range = (writer, after + 1)..=(writer, i64::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.outbox.range(range).take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    pub fn advance_cursors(&mut self, cursors: &[(i32, i64)]) {
        for (writer, seq) in cursors {
            if let Some(writer) = self.writers.get_mut(writer) {
                writer.published = writer.published.max(*seq);
            }
        }
    }

    // ---- a turn

    pub fn load(&self, wanted: &Load) -> LoadedState {
        let handled = wanted.inbox.iter().filter(|key| self.inbox.contains_key(key)).copied();
        let documents = wanted.documents.iter().filter_map(|(c, k)| self.document(c, k));
        LoadedState { handled: handled.collect(), documents: documents.collect() }
    }

    pub fn document(&self, collection: &str, key: &str) -> Option<Row> {
        let stored = self.documents.get(&(collection.to_owned(), key.to_owned()))?;
        Some(Row {
            collection: collection.to_owned(),
            key: key.to_owned(),
            version: stored.version,
            body: stored.body.clone(),
        })
    }

    pub fn list(
        &self,
        collection: &str,
        from: &str,
        until: Option<&str>,
        after: Option<&str>,
    ) -> impl Iterator<Item = Row> {
        let from = (collection.to_owned(), from.to_owned());
        let rows = self.documents.range(from..).take_while(move |((c, _), _)| c == collection);
        rows.filter(move |((_, key), stored)| {
            stored.body.is_some()
                && until.is_none_or(|until| key.as_str() < until)
                && after.is_none_or(|after| key.as_str() > after)
        })
        .map(|((c, k), stored)| Row {
            collection: c.clone(),
            key: k.clone(),
            version: stored.version,
            body: stored.body.clone(),
        })
    }

    /// The live documents: (collection, key, body).
    pub fn live(&self) -> BTreeMap<(String, String), String> {
        let live = self.documents.iter().filter_map(|(at, stored)| {
            let body = stored.body.as_ref()?;
            Some((at.clone(), body.to_string()))
        });
        live.collect()
    }

    /// A turn whole, or nothing of it. Where it fails is in the order of the statement.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        self.check(commit)?;
        self.apply(commit);
        Ok(())
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let conflict = |why: &str| Err(CommitError::Conflict(why.to_owned()));
        for guard in &commit.lists {
            let range = &guard.range;
            let (until, after) = (range.until.as_deref(), range.after.as_deref());
            let seen = self.list(&range.collection, &range.from, until, after);
            let seen = seen.filter(|row| guard.last.as_ref().is_none_or(|last| row.key <= *last));
            let same = i64::try_from(seen.count()).unwrap_or(i64::MAX) == guard.count;
            if !same && self.keeps(Rule::Lists) {
                return conflict("a list changed");
            }
        }
        let writer = self.writers.get(&commit.writer);
        let stands = writer.is_some_and(|writer| writer.fence == commit.fence);
        if !stands && self.keeps(Rule::Fence) {
            return Err(fenced(format!("log {} was taken over", commit.writer)));
        }
        let known = commit.inbox.iter().any(|(key, _)| self.inbox.contains_key(key));
        if known && self.keeps(Rule::Inbox) {
            return Err(CommitError::Duplicate);
        }
        let version = |row: &Row| self.document(&row.collection, &row.key).map(|r| r.version);
        let written = [&commit.updates, &commit.creates, &commit.blind];
        for row in written.into_iter().flatten() {
            if row.body.as_ref().is_some_and(|body| body.contains("poison")) {
                return Err(CommitError::Data("a constraint refuses poison".to_owned()));
            }
        }
        let changed = |rows: &[Row]| rows.iter().any(|row| version(row) != Some(row.version));
        if (changed(&commit.updates) && self.keeps(Rule::Writes))
            || (changed(&commit.reads) && self.keeps(Rule::Reads))
        {
            return conflict("a document changed");
        }
        let come = commit.creates.iter().any(|row| version(row).is_some());
        if come && self.keeps(Rule::Creates) {
            return conflict("a document that was not there has come");
        }
        if commit.entries.iter().any(|e| self.outbox.contains_key(&(commit.writer, e.seq))) {
            return Err(CommitError::Unavailable("the log has that entry".to_owned()));
        }
        for new in &commit.scheduled {
            if self.scheduled.contains_key(&new.id) {
                return Err(CommitError::Duplicate);
            }
            let taken = |w: &Waiting| w.handler == commit.handler && w.scheduled.name == new.name;
            let dropped = new.name.as_ref().is_some_and(|name| commit.dropped_names.contains(name));
            if new.name.is_some() && !dropped && self.scheduled.values().any(taken) {
                return conflict("a schedule name is taken");
            }
        }
        let reparked = commit.reparked.iter().map(|(id, _)| id);
        for id in commit.unparked.iter().chain(reparked) {
            if self.parked.get(id).is_none_or(|p| p.state == ParkedState::Dead) {
                return conflict("a parked row is gone");
            }
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) {
        let parked_now = |key: &InboxKey| commit.parked.iter().any(|(parked, ..)| parked == key);
        let mut handled: Vec<InboxKey> =
            commit.unparked.iter().filter_map(|id| Some(self.parked.get(id)?.inbox_key)).collect();
        handled.extend(commit.inbox.iter().map(|(key, _)| *key).filter(|key| !parked_now(key)));
        let last = commit.entries.last().map(|entry| entry.seq);
        let (at, writer) = (elapsed(), commit.writer);
        self.history.push(Done { at, writer, last, handler: commit.handler.clone(), handled });
        if self.keeps(Rule::Whole) || commit.inbox.len() % 3 > 0 {
            self.inbox.extend(commit.inbox.iter().copied());
        }
        let versioned = commit.updates.iter().map(|row| (row, row.version + 1));
        let created = commit.creates.iter().map(|row| (row, 1));
        let mut rows: Vec<(&Row, i64)> = versioned.chain(created).collect();
        for row in &commit.blind {
            let version = self.document(&row.collection, &row.key).map_or(0, |r| r.version);
            rows.push((row, version + 1));
        }
        for (row, version) in rows {
            let at = (row.collection.clone(), row.key.clone());
            self.documents.insert(at, Stored { version, body: row.body.clone() });
        }
        for entry in &commit.entries {
            let logged = LoggedEntry {
                seq: entry.seq,
                id: entry.id.clone(),
                subject: entry.subject.clone(),
                headers: entry.headers.clone(),
                payload: entry.payload.clone(),
                committed_at: now(),
                expires_at: entry.expires_after.map(|after| now() + after),
            };
            if self.keeps(Rule::Outbox) || entry.seq % 9 > 0 {
                self.outbox.insert((commit.writer, entry.seq), logged);
            }
        }
        if let Some(published) = commit.published {
            self.advance_cursors(&[(commit.writer, published)]);
        }
        for position in &commit.positions {
            let at = (commit.handler.clone(), position.stream.clone(), position.created);
            let floor = self.floors.entry(at).or_default();
            *floor = position.floor.max(*floor);
        }
        self.scheduled.retain(|_, waiting| {
            let name = waiting.scheduled.name.as_ref();
            waiting.handler != commit.handler
                || !name.is_some_and(|name| commit.dropped_names.contains(name))
        });
        for scheduled in &commit.scheduled {
            let due_at = match scheduled.due {
                Due::After(ms) => now() + i64::try_from(ms).unwrap_or(i64::MAX / 4),
                Due::At(ms) => i64::try_from(ms).unwrap_or(i64::MAX),
            };
            let handler = commit.handler.clone();
            let waiting = Waiting { due_at, handler, scheduled: scheduled.clone() };
            self.scheduled.insert(scheduled.id.clone(), waiting);
        }
        self.park(commit);
    }

    fn park(&mut self, commit: &Commit) {
        for (inbox_key, message, parking) in &commit.parked {
            self.next_parked += 1;
            let Parking { state, attempts, retry_after, reason, error } = parking.clone();
            let parked = Parked {
                handler: commit.handler.clone(),
                state,
                attempts,
                next_attempt_at: retry_after.map(|ms| now() + ms),
                reason,
                error,
                component: commit.component,
                inbox_key: *inbox_key,
                message: message.clone(),
            };
            self.parked.insert(self.next_parked, parked);
        }
        for (_, message, parking) in &commit.parked {
            if parking.state == ParkedState::Waiting
                && let Some(key) = &message.key
            {
                self.wake(&commit.handler, key);
            }
        }
        for id in &commit.unparked {
            self.parked.remove(id);
        }
        for (id, parking) in &commit.reparked {
            if let Some(parked) = self.parked.get_mut(id) {
                parked.state = parking.state;
                parked.attempts = parking.attempts;
                parked.next_attempt_at = parking.retry_after.map(|ms| now() + ms);
                parked.reason = parking.reason;
                parking.error.clone_into(&mut parked.error);
                parked.component = commit.component;
            }
        }
    }

    // ---- parked messages

    fn of_key<'a>(
        &'a self,
        handler: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = (i64, &'a Parked)> {
        self.parked.iter().map(|(id, p)| (*id, p)).filter(move |(_, p)| {
            p.handler == handler
                && p.message.key.as_deref() == Some(key)
                && p.state != ParkedState::Dead
        })
    }

    fn wake(&mut self, handler: &str, key: &str) {
        let first = self.of_key(handler, key).next().map(|(id, p)| (id, p.state));
        if let Some((id, ParkedState::Waiting)) = first
            && let Some(parked) = self.parked.get_mut(&id)
        {
            parked.state = ParkedState::Retrying;
            parked.next_attempt_at = Some(now());
        }
    }

    pub fn held_keys(&self, handler: &str) -> Vec<String> {
        let open = |p: &&Parked| p.handler == handler && p.state != ParkedState::Dead;
        let mut keys: Vec<String> =
            self.parked.values().filter(open).filter_map(|p| p.message.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub fn take_up(&self, handler: &str, due: &[DueParked], limit: i64) -> Vec<ParkedMessage> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for (asked, due) in due.iter().enumerate() {
            let message = |id: i64, p: &Parked| ParkedMessage {
                id,
                asked,
                attempts: p.attempts,
                due: p.state == ParkedState::Waiting
                    || (p.state == ParkedState::Retrying
                        && p.next_attempt_at.is_some_and(|at| at <= now())),
                inbox_key: p.inbox_key,
                message: p.message.clone(),
            };
            match &due.key {
                Some(key) => {
                    let room = limit - found.len();
                    let messages = self.of_key(handler, key).take(room);
                    let from = found.len();
                    found.extend(messages.map(|(id, p)| message(id, p)));
                    if !self.keeps(Rule::ParkedOrder) {
                        found[from..].reverse();
                    }
                }
                None => {
                    let parked = self.parked.get(&due.id);
                    let parked =
                        parked.filter(|p| p.handler == handler && p.state == ParkedState::Retrying);
                    found.extend(parked.map(|p| message(due.id, p)));
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    pub fn standing(&self, handler: &str, limit: i64) -> Standing {
        let due = |p: &Parked| {
            p.handler == handler
                && p.state == ParkedState::Retrying
                && p.next_attempt_at.is_some_and(|at| at <= now())
        };
        let due = self.parked.iter().filter(|(_, p)| due(p));
        let due = due.map(|(id, p)| DueParked { id: *id, key: p.message.key.clone() });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Standing { due: due.take(limit).collect(), ..Standing::default() }
    }

    /// Has a new build try again what failed by a fault of another one.
    pub fn heal(&mut self, handler: &str, component: i32) {
        let mut seen: Vec<String> = Vec::new();
        for parked in self.parked.values_mut() {
            let dead = matches!(parked.state, ParkedState::Dead | ParkedState::Holding);
            let mended = MENDED_BY_A_BUILD.contains(&parked.reason);
            if parked.handler != handler || !dead || !mended || parked.component == component {
                continue;
            }
            let key = parked.message.key.clone();
            let first = key.as_ref().is_none_or(|key| !seen.contains(key));
            parked.state = if first { ParkedState::Retrying } else { ParkedState::Waiting };
            parked.attempts = 0;
            parked.next_attempt_at = Some(now());
            seen.extend(key);
        }
    }

    pub fn count_open_parked(&self, handler: &str) -> usize {
        let open = |p: &&Parked| {
            p.handler == handler && matches!(p.state, ParkedState::Retrying | ParkedState::Waiting)
        };
        self.parked.values().filter(open).count()
    }

    // ---- delayed and undelivered messages

    pub fn release_due(&mut self, log: &OpenedWriter, first: i64, limit: i64) -> Option<i64> {
        if self.writers.get(&log.id).is_none_or(|w| w.fence != log.fence) {
            return None;
        }
        let mut due: Vec<(i64, String)> = self
            .scheduled
            .iter()
            .filter(|(_, w)| w.due_at <= now())
            .map(|(id, w)| (w.due_at, id.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut moved = 0;
        for (due_at, id) in due {
            let Some(waiting) = self.scheduled.remove(&id) else { continue };
            let Scheduled { subject, headers, payload, expires_after, .. } = waiting.scheduled;
            let seq = first + moved;
            let expires_at = expires_after.map(|after| due_at + after);
            let entry =
                LoggedEntry { seq, id, subject, headers, payload, committed_at: now(), expires_at };
            self.outbox.insert((log.id, seq), entry);
            moved += 1;
        }
        Some(moved)
    }

    pub fn next_due(&self) -> Option<i64> {
        self.scheduled.values().map(|w| w.due_at - now()).min()
    }

    pub fn scheduled(&self) -> usize {
        self.scheduled.len()
    }

    pub fn undelivered(&self) -> usize {
        self.undelivered.len()
    }

    pub fn set_undelivered(&mut self, writer: i32, seq: i64, reason: &str) {
        let Some(entry) = self.outbox.get(&(writer, seq)).cloned() else { return };
        let pause = |attempts: i32| (5 * (1_i64 << attempts.clamp(0, 10))).min(300) * 1_000;
        if let Some(there) = self.undelivered.get_mut(&entry.id) {
            there.retry_at = Some(now() + pause(there.attempts));
            reason.clone_into(&mut there.reason);
            there.attempts += 1;
            there.resent = None;
            return;
        }
        let first = !self.undelivered.values().any(|u| u.entry.subject == entry.subject);
        self.next_undelivered += 1;
        let undelivered = Undelivered {
            position: self.next_undelivered,
            reason: reason.to_owned(),
            attempts: 1,
            retry_at: first.then(|| now() + 5_000),
            resent: None,
            entry: entry.clone(),
        };
        self.undelivered.insert(entry.id, undelivered);
    }

    pub fn resend(&mut self, log: &OpenedWriter, first: i64, limit: i64) -> i64 {
        if self.writers.get(&log.id).is_none_or(|w| w.fence != log.fence) {
            return 0;
        }
        let due =
            |u: &&mut Undelivered| u.resent.is_none() && u.retry_at.is_some_and(|at| at <= now());
        let mut due: Vec<&mut Undelivered> = self.undelivered.values_mut().filter(due).collect();
        due.sort_by_key(|u| u.position);
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut moved = 0;
        for undelivered in due {
            let seq = first + moved;
            undelivered.resent = Some((log.id, seq));
            undelivered.retry_at = None;
            let entry = LoggedEntry {
                seq,
                committed_at: now(),
                expires_at: None,
                ..undelivered.entry.clone()
            };
            self.outbox.insert((log.id, seq), entry);
            moved += 1;
        }
        moved
    }

    pub fn settle_resent(&mut self) -> i64 {
        let published = |writer: i32| self.writers.get(&writer).map_or(0, |w| w.published);
        let gone: Vec<(String, String)> = self
            .undelivered
            .iter()
            .filter(|(_, u)| u.resent.is_some_and(|(writer, seq)| published(writer) >= seq))
            .map(|(id, u)| (id.clone(), u.entry.subject.clone()))
            .collect();
        for (id, _) in &gone {
            self.undelivered.remove(id);
        }
        for undelivered in self.undelivered.values_mut() {
            let follows = gone.iter().any(|(_, subject)| *subject == undelivered.entry.subject);
            if follows && undelivered.resent.is_none() {
                undelivered.retry_at = Some(now());
            }
        }
        i64::try_from(gone.len()).unwrap_or(i64::MAX)
    }

    pub fn wake_undelivered(&mut self) {
        let mut first: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for (id, u) in &self.undelivered {
            let at = first.entry(u.entry.subject.clone()).or_insert((u.position, id.clone()));
            if u.position < at.0 {
                *at = (u.position, id.clone());
            }
        }
        for (_, id) in first.into_values() {
            if let Some(u) = self.undelivered.get_mut(&id)
                && u.retry_at.is_none()
                && u.resent.is_none()
            {
                u.retry_at = Some(now());
            }
        }
    }

    // ---- positions

    pub fn floor(&self, handler: &str, stream: &str, created: i64) -> i64 {
        let at = (handler.to_owned(), stream.to_owned(), created);
        self.floors.get(&at).copied().unwrap_or_default()
    }
}

/// An entry's payload as text, for messages to people.
pub fn text(payload: &Bytes) -> String {
    String::from_utf8_lossy(payload).into_owned()
}
