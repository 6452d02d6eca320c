//! The model of the database against the real one: the same random commits to both, and after each of them
//! the same outcome and the same state. Times are left to the suite.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tribox::lane::ports::{
    Commit, CommitError, DueParked, Entry, ListGuard, ListRange, Load, ParkedMessage, ParkedState,
    Parking, Row, Scheduled, Store,
};
use tribox::model::{Due, InboxKey, Message};
use tribox::store::{self, OpenedWriter, Postgres, Statements};
use tribox_tests::database;

use crate::database::Database;

const HANDLER: &str = "book";
const KEYS: [&str; 3] = ["a", "b", "c"];
const COLLECTIONS: [&str; 2] = ["lists", "items"];
const SEEDS: u64 = 4;
const STEPS: usize = 150;

/// Both databases, with a log that is open in each.
struct Pair {
    model: Database,
    real: Postgres,
    model_log: OpenedWriter,
    real_log: OpenedWriter,
    chance: fastrand::Rng,
    sent: i64,
}

#[tokio::test]
async fn the_model_of_the_database_does_as_the_database_does() -> Result<()> {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=SEEDS {
        let mut pair = Pair::open(seed).await?;
        for step in 0..STEPS {
            let outcome = pair.step().await.with_context(|| format!("seed {seed}, step {step}"))?;
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    ensure!(outcomes.len() == 6, "each outcome happened: {outcomes:?}");
    Ok(())
}

fn kind(outcome: &Result<(), CommitError>) -> &'static str {
    match outcome {
        Ok(()) => "done",
        Err(CommitError::Duplicate) => "duplicate",
        Err(CommitError::Conflict(_)) => "conflict",
        Err(CommitError::Fenced(_)) => "fenced",
        Err(CommitError::Data(_)) => "data",
        Err(CommitError::Unavailable(_)) => "unavailable",
    }
}

impl Pair {
    async fn open(seed: u64) -> Result<Pair> {
        let url = database::fresh(&format!("conform{seed}")).await?;
        let pool = store::connect(&url, 4, Statements::Prepared).await?;
        store::migrate(&pool).await?;
        let lease = Duration::from_secs(600);
        let registered = store::register(&pool, "north", "test", lease).await?;
        let real = Postgres::new(pool, 4, registered.node);
        let mut model = Database::default();
        let (epoch, _) = model.register("north", "test", lease);
        real.claim(HANDLER).await?;
        model.claim("north", epoch, HANDLER).map_err(anyhow::Error::msg)?;
        let real_log = real.open_writer(HANDLER, 0, 1, true).await?;
        let model_log = model.open_writer(("north", epoch), HANDLER, 0, 1, true);
        let model_log = model_log.map_err(anyhow::Error::msg)?;
        let chance = fastrand::Rng::with_seed(seed);
        Ok(Pair { model, real, model_log, real_log, chance, sent: 0 })
    }

    /// One commit to both; what came of it.
    async fn step(&mut self) -> Result<&'static str> {
        let model_parked = self.model_parked();
        let real_parked = self.real_parked().await?;
        let (mut commit, unparked, reparked) = self.commit(&model_parked);
        let fenced = self.chance.u8(0..25) == 0;
        let ids = |parked: &BTreeMap<InboxKey, ParkedMessage>, keys: &[InboxKey]| {
            let id = |key: &InboxKey| parked.get(key).map_or(-1, |message| message.id);
            keys.iter().map(id).collect::<Vec<i64>>()
        };
        let again = || Parking {
            state: ParkedState::Retrying,
            attempts: 2,
            retry_after: Some(0),
            reason: "retry",
            error: "again".to_owned(),
        };
        let with_again = |ids: Vec<i64>| ids.into_iter().map(|id| (id, again())).collect();
        commit.unparked = ids(&model_parked, &unparked);
        commit.reparked = with_again(ids(&model_parked, &reparked));
        (commit.writer, commit.fence) = (self.model_log.id, self.model_log.fence);
        commit.fence -= i64::from(fenced);
        let by_model = self.model.commit(&commit);
        commit.unparked = ids(&real_parked, &unparked);
        commit.reparked = with_again(ids(&real_parked, &reparked));
        (commit.writer, commit.fence) = (self.real_log.id, self.real_log.fence);
        commit.fence -= i64::from(fenced);
        let by_real = self.real.commit(&commit).await;
        ensure!(
            kind(&by_model) == kind(&by_real),
            "{by_model:?} by the model, {by_real:?} in truth: {commit:#?}"
        );
        self.compare().await?;
        Ok(kind(&by_real))
    }

    /// The same documents, inbox, log and parked messages in both.
    async fn compare(&mut self) -> Result<()> {
        let all = || Load {
            inbox: (0..40).map(inbox_key).collect(),
            documents: COLLECTIONS
                .iter()
                .flat_map(|c| KEYS.iter().map(|k| ((*c).to_owned(), (*k).to_owned())))
                .collect(),
        };
        let (mut model, mut real) = (self.model.load(&all()), self.real.load(&all()).await?);
        for state in [&mut model, &mut real] {
            state.handled.sort_unstable();
            state.documents.sort_by(|a, b| (&a.collection, &a.key).cmp(&(&b.collection, &b.key)));
        }
        ensure!(model.handled == real.handled, "inbox: {:?}, {:?}", model.handled, real.handled);
        ensure!(model.documents == real.documents, "{:?}, {:?}", model.documents, real.documents);
        let model_state = self.model.writer_state(self.model_log.id);
        let real_state = self.real.writer_state(self.real_log.id).await?;
        ensure!(model_state == real_state, "log: {model_state:?}, {real_state:?}");
        self.sent = real_state.last;
        let entries = self.model.read_log(self.model_log.id, 0, 1_000);
        let ids: Vec<String> = entries.into_iter().map(|entry| entry.id).collect();
        let entries = self.real.read_log(self.real_log.id, 0, 1_000).await?;
        let real_ids: Vec<String> = entries.into_iter().map(|entry| entry.id).collect();
        ensure!(ids == real_ids, "log: {ids:?}, {real_ids:?}");
        let mut held = self.real.held_keys(HANDLER).await?;
        held.sort_unstable();
        ensure!(self.model.held_keys(HANDLER) == held, "held keys: {held:?}");
        let model = self.model_parked();
        let real = self.real_parked().await?;
        let shown = |parked: &BTreeMap<InboxKey, ParkedMessage>| -> Vec<(InboxKey, i32, bool)> {
            parked.values().map(|p| (p.inbox_key, p.attempts, p.due)).collect()
        };
        ensure!(shown(&model) == shown(&real), "{:?}, {:?}", shown(&model), shown(&real));
        let waiting = self.real.count_scheduled(1_000).await?;
        let modelled = i64::try_from(self.model.scheduled())?;
        ensure!(modelled == waiting, "scheduled: {modelled}, {waiting}");
        Ok(())
    }

    fn asked() -> Vec<DueParked> {
        KEYS.iter().map(|key| DueParked { id: 0, key: Some((*key).to_owned()) }).collect()
    }

    fn model_parked(&self) -> BTreeMap<InboxKey, ParkedMessage> {
        let found = self.model.take_up(HANDLER, &Self::asked(), 1_000);
        found.into_iter().map(|message| (message.inbox_key, message)).collect()
    }

    async fn real_parked(&self) -> Result<BTreeMap<InboxKey, ParkedMessage>> {
        let found = self.real.parked_messages(HANDLER, &Self::asked(), 1_000).await?;
        Ok(found.into_iter().map(|message| (message.inbox_key, message)).collect())
    }

    /// A random commit, some of it wrong; and the parked messages that it takes away and sets aside
    /// again.
    fn commit(
        &mut self,
        parked: &BTreeMap<InboxKey, ParkedMessage>,
    ) -> (Commit, Vec<InboxKey>, Vec<InboxKey>) {
        let mut commit = Commit { handler: HANDLER.to_owned(), ..Commit::default() };
        for _ in 0..self.chance.usize(0..3) {
            let key = inbox_key(self.chance.u8(0..40));
            if commit.inbox.iter().all(|(there, _)| *there != key) {
                commit.inbox.push((key, 1));
            }
        }
        for collection in COLLECTIONS {
            for key in KEYS {
                self.document(&mut commit, collection, key);
            }
        }
        self.list(&mut commit);
        for n in 0..self.chance.i64(0..3) {
            let gap = i64::from(self.chance.u8(0..30) == 0);
            commit.entries.push(entry(self.sent + 1 + n - gap));
        }
        commit.entries.dedup_by_key(|entry| entry.seq);
        if self.chance.bool() {
            commit.published = Some(self.chance.i64(0..=self.sent));
        }
        if self.chance.u8(0..4) == 0 {
            let n = self.chance.u8(0..20);
            let name = Some(format!("name-{}", n % 3)).filter(|_| n.is_multiple_of(2));
            if self.chance.bool() {
                commit.dropped_names.extend(name.clone());
            }
            commit.scheduled.push(scheduled(&format!("s-{n}"), name));
        }
        let mut states =
            [ParkedState::Retrying, ParkedState::Waiting, ParkedState::Dead].into_iter();
        for (key, _) in commit.inbox.clone() {
            let Some(state) = states.next().filter(|_| self.chance.u8(0..3) == 0) else { continue };
            commit.parked.push((key, message(key), parking(state)));
        }
        let mut unparked = Vec::new();
        let mut reparked = Vec::new();
        for key in parked.keys() {
            match self.chance.u8(0..6) {
                0 => unparked.push(*key),
                1 => reparked.push(*key),
                _ => {}
            }
        }
        if self.chance.u8(0..30) == 0 {
            // One that is not there.
            unparked.push(inbox_key(250));
        }
        (commit, unparked, reparked)
    }

    fn document(&mut self, commit: &mut Commit, collection: &str, key: &str) {
        let there = self.model.document(collection, key);
        let right = there.as_ref().map_or(0, |row| row.version);
        let version = right + i64::from(self.chance.u8(0..25) == 0);
        let written = self.chance.u8(0..8);
        let body = match written {
            0 => None,
            1 if self.chance.u8(0..6) == 0 => Some(r#"{"a": "\u0000"}"#.into()),
            n => Some(format!("{n}").into()),
        };
        let (collection, key) = (collection.to_owned(), key.to_owned());
        let row = Row { collection: collection.clone(), key, version, body };
        let comes_or_goes = there.is_some_and(|r| r.body.is_some()) != row.body.is_some();
        let rows = match self.chance.u8(0..10) {
            0 | 1 if version > 0 => &mut commit.updates,
            0 | 1 => &mut commit.creates,
            2 => &mut commit.blind,
            3 if version > 0 => &mut commit.reads,
            _ => return,
        };
        rows.push(row);
        if comes_or_goes && !commit.changed.contains(&collection) {
            commit.changed.push(collection);
        }
    }

    fn list(&mut self, commit: &mut Commit) {
        if self.chance.u8(0..4) > 0 {
            return;
        }
        let collection = COLLECTIONS[self.chance.usize(0..2)].to_owned();
        let from = KEYS[self.chance.usize(0..3)].to_owned();
        let until = self.chance.bool().then(|| "c".to_owned());
        let seen = self.model.list(&collection, &from, until.as_deref(), None).count();
        let wrong = i64::from(self.chance.u8(0..6) == 0);
        let count = i64::try_from(seen).unwrap_or_default() + wrong;
        let range = ListRange { collection, from, until, after: None };
        commit.lists.push(ListGuard { range, last: None, count });
    }
}

fn inbox_key(n: u8) -> InboxKey {
    InboxKey([n; 16])
}

fn entry(seq: i64) -> Entry {
    Entry {
        seq,
        id: format!("e-{seq}"),
        subject: "out.a".to_owned(),
        headers: String::new(),
        payload: Bytes::from_static(b"{}"),
        expires_after: None,
    }
}

fn scheduled(id: &str, name: Option<String>) -> Scheduled {
    Scheduled {
        id: id.to_owned(),
        name,
        due: Due::After(3_600_000),
        expires_after: None,
        subject: "later.a".to_owned(),
        headers: String::new(),
        payload: Bytes::new(),
    }
}

fn message(key: InboxKey) -> Message {
    Message {
        id: key.to_string(),
        subject: "in.a".to_owned(),
        key: Some(KEYS[usize::from(key.0[0]) % KEYS.len()].to_owned()),
        headers: Vec::new(),
        payload: Bytes::new(),
        stored_at: 0,
    }
}

fn parking(state: ParkedState) -> Parking {
    let retry_after = (state == ParkedState::Retrying).then_some(3_600_000);
    Parking { state, attempts: 1, retry_after, reason: "retry", error: String::new() }
}
