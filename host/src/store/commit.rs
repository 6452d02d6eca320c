//! The commit of a turn: one statement, one transaction.

use std::sync::OnceLock;
use std::time::Instant;

use sqlx::Postgres as Pg;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;

use super::arrays::{Documents, storable};
use super::error::of_commit;
use super::{PATIENCE, Postgres, sql};
use crate::fault::{self, Point};
use crate::lane::ports::{Commit, CommitError, ParkedState};
use crate::model::{Due, Header};

type Bound<'q> = Query<'q, Pg, PgArguments>;

/// The parts of a commit that not every turn has.
const LISTS: usize = 1;
const ADVANCE: usize = 2;
const SCHEDULE: usize = 4;
const PARK: usize = 8;
const REPARK: usize = 16;

impl Postgres {
    /// Commits a turn whole or not at all.
    pub(super) async fn commit_turn(&self, commit: &Commit) -> Result<(), CommitError> {
        let parts = parts(commit);
        let mut query = sqlx::query(statement(parts));
        if parts & LISTS != 0 {
            query = bind_lists(query, commit);
        }
        query = self.bind_core(query, commit);
        if parts & ADVANCE != 0 {
            query = bind_positions(query, commit);
        }
        if parts & SCHEDULE != 0 {
            query = bind_scheduled(query, commit);
        }
        if parts & PARK != 0 {
            query = bind_parked(query, commit);
        }
        if parts & REPARK != 0 {
            query = bind_reparked(query, commit);
        }
        fault::point(Point::BeforeCommit)?;
        let started = Instant::now();
        match tokio::time::timeout(PATIENCE, query.execute(&self.pool)).await {
            Ok(Ok(_)) => committed(parts),
            Ok(Err(error)) => Err(of_commit(&error)),
            Err(_) => {
                let seconds = started.elapsed().as_secs();
                Err(CommitError::Unavailable(format!("no answer to a commit for {seconds} s")))
            }
        }
    }

    fn bind_core<'q>(&'q self, query: Bound<'q>, commit: &'q Commit) -> Bound<'q> {
        let keys: Vec<Uuid> = commit.inbox.iter().map(|(k, _)| Uuid::from_bytes(k.0)).collect();
        let sequences: Vec<i64> = commit.inbox.iter().map(|(_, sequence)| *sequence).collect();
        let updates = Documents::from(commit.updates.as_slice());
        let creates = Documents::from(commit.creates.as_slice());
        let blind = Documents::from(commit.blind.as_slice());
        let reads = Documents::from(commit.reads.as_slice());
        let entries = &commit.entries;
        query
            .bind(&self.node.name)
            .bind(commit.fence)
            .bind(commit.component)
            .bind(keys)
            .bind(sequences)
            .bind(updates.collections)
            .bind(updates.keys)
            .bind(updates.versions)
            .bind(updates.bodies)
            .bind(creates.collections)
            .bind(creates.keys)
            .bind(creates.bodies)
            .bind(blind.collections)
            .bind(blind.keys)
            .bind(blind.bodies)
            .bind(&commit.changed)
            .bind(reads.collections)
            .bind(reads.keys)
            .bind(reads.versions)
            .bind(commit.writer)
            .bind(entries.first().map_or(0, |e| e.seq))
            .bind(entries.iter().map(|e| e.id.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.headers.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| &e.payload[..]).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.expires_after).collect::<Vec<_>>())
            .bind(commit.published)
    }
}

/// A turn is committed, and the lane does not know it yet.
fn committed(parts: usize) -> Result<(), CommitError> {
    fault::point(Point::AfterCommit)?;
    if parts & SCHEDULE != 0 {
        fault::point(Point::Scheduled)?;
    }
    if parts & PARK != 0 {
        fault::point(Point::Parked)?;
    }
    if parts & REPARK != 0 {
        fault::point(Point::TriedAgain)?;
    }
    Ok(())
}

fn parts(commit: &Commit) -> usize {
    let when = |present: bool, part: usize| if present { part } else { 0 };
    when(!commit.lists.is_empty(), LISTS)
        | when(!commit.positions.is_empty(), ADVANCE)
        | when(!commit.scheduled.is_empty() || !commit.dropped_names.is_empty(), SCHEDULE)
        | when(!commit.parked.is_empty(), PARK)
        | when(!commit.unparked.is_empty() || !commit.reparked.is_empty(), REPARK)
}

/// The statement for these parts. Each is put together once: there are as many as sets of parts.
fn statement(parts: usize) -> &'static str {
    static STATEMENTS: [OnceLock<String>; REPARK * 2] = [const { OnceLock::new() }; REPARK * 2];
    STATEMENTS[parts].get_or_init(|| put_together(parts))
}

/// One SELECT of the functions that a turn needs, in the order in which they must run.
fn put_together(parts: usize) -> String {
    let pieces = [
        (LISTS, sql!("commit_lists")),
        (0, sql!("commit")),
        (ADVANCE, sql!("commit_advance")),
        (SCHEDULE, sql!("commit_schedule")),
        (PARK, sql!("commit_park")),
        (REPARK, sql!("commit_repark")),
    ];
    let mut text = String::from("SELECT ");
    let mut bound = 0;
    for (part, piece) in pieces {
        if part != 0 && parts & part == 0 {
            continue;
        }
        if bound > 0 {
            text.push_str(", ");
        }
        bound += append(&mut text, piece, bound);
    }
    text
}

/// Appends the call in `piece`, its parameters renumbered to follow `bound`; returns their number.
fn append(text: &mut String, piece: &str, bound: usize) -> usize {
    let call = piece.split_once("SELECT ").map_or("", |(_, call)| call).trim();
    let mut parts = call.split('$');
    text.push_str(parts.next().unwrap_or_default());
    let mut count = 0;
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().unwrap_or_default();
        count = count.max(number);
        text.push('$');
        text.push_str(&(number + bound).to_string());
        text.push_str(&part[digits..]);
    }
    count
}

fn bind_lists<'q>(query: Bound<'q>, commit: &'q Commit) -> Bound<'q> {
    let lists = &commit.lists;
    query
        .bind(lists.iter().map(|l| l.range.collection.as_str()).collect::<Vec<_>>())
        .bind(lists.iter().map(|l| l.range.from.as_str()).collect::<Vec<_>>())
        .bind(lists.iter().map(|l| l.range.after.as_deref()).collect::<Vec<_>>())
        .bind(lists.iter().map(|l| l.range.until.as_deref()).collect::<Vec<_>>())
        .bind(lists.iter().map(|l| l.last.as_deref()).collect::<Vec<_>>())
        .bind(lists.iter().map(|l| l.count).collect::<Vec<_>>())
}

fn bind_positions<'q>(query: Bound<'q>, commit: &'q Commit) -> Bound<'q> {
    let positions = &commit.positions;
    query
        .bind(&commit.handler)
        .bind(commit.writer)
        .bind(positions.iter().map(|p| p.stream.as_str()).collect::<Vec<_>>())
        .bind(positions.iter().map(|p| p.created).collect::<Vec<_>>())
        .bind(positions.iter().map(|p| p.handled).collect::<Vec<_>>())
        .bind(positions.iter().map(|p| p.floor).collect::<Vec<_>>())
}

fn bind_scheduled<'q>(query: Bound<'q>, commit: &'q Commit) -> Bound<'q> {
    let scheduled = &commit.scheduled;
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let after = |due| if let Due::After(ms) = due { Some(signed(ms)) } else { None };
    let at = |due| if let Due::At(ms) = due { Some(signed(ms)) } else { None };
    query
        .bind(&commit.handler)
        .bind(&commit.dropped_names)
        .bind(scheduled.iter().map(|s| s.id.as_str()).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| s.name.as_deref()).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| after(s.due)).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| at(s.due)).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| s.expires_after).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| s.subject.as_str()).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| s.headers.as_str()).collect::<Vec<_>>())
        .bind(scheduled.iter().map(|s| &s.payload[..]).collect::<Vec<_>>())
}

fn bind_parked<'q>(query: Bound<'q>, commit: &'q Commit) -> Bound<'q> {
    let parked = &commit.parked;
    query
        .bind(&commit.handler)
        .bind(commit.component)
        .bind(parked.iter().map(|(_, m, _)| m.key.as_deref()).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, _, p)| state(p.state)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, _, p)| p.attempts).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, _, p)| p.retry_after).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, _, p)| p.reason).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, _, p)| storable(&p.error)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(key, _, _)| Uuid::from_bytes(key.0)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, m, _)| storable(&m.id)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, m, _)| storable(&m.subject)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, m, _)| headers_json(&m.headers)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, m, _)| &m.payload[..]).collect::<Vec<_>>())
        .bind(
            parked
                .iter()
                .map(|(_, m, _)| i64::try_from(m.stored_at).unwrap_or(i64::MAX))
                .collect::<Vec<_>>(),
        )
}

fn bind_reparked<'q>(query: Bound<'q>, commit: &'q Commit) -> Bound<'q> {
    let parked = &commit.reparked;
    query
        .bind(commit.component)
        .bind(&commit.unparked)
        .bind(parked.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, p)| state(p.state)).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, p)| p.attempts).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, p)| p.retry_after).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, p)| p.reason).collect::<Vec<_>>())
        .bind(parked.iter().map(|(_, p)| storable(&p.error)).collect::<Vec<_>>())
}

fn state(state: ParkedState) -> &'static str {
    match state {
        ParkedState::Retrying => "retrying",
        ParkedState::Waiting => "waiting",
        ParkedState::Holding => "holding",
        ParkedState::Dead => "dead",
    }
}

/// Header lines as a JSON array of pairs, in order.
fn headers_json(headers: &[Header]) -> String {
    let pair = |h: &Header| serde_json::json!([storable(&h.name), storable(&h.value)]);
    serde_json::Value::Array(headers.iter().map(pair).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_through() {
        let text = statement(LISTS | REPARK);
        assert!(
            text.starts_with(
                "SELECT tribox.check_lists($1, $2, $3, $4, $5, $6), tribox.commit($7,"
            )
        );
        assert!(text.ends_with("tribox.repark($34, $35, $36, $37, $38, $39, $40, $41)"), "{text}");
        assert_eq!(statement(0).matches('$').count(), 27);
    }
}
