//! What recovery did, as far as it is the same each time, and the transcript that it is compared
//! with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use tribox_tests::{Host, programs};

/// What happened in a case, a sentence each.
pub type Facts = BTreeSet<String>;
/// The facts of each case, by its name.
pub type Book = BTreeMap<String, Facts>;

/// What stands in a log, and what that means.
const TOLD: &[(&str, &str)] = &[
    ("did not end in order", "the crash was noticed"),
    ("making consumer", "the consumer was made"),
    ("setting consumer", "the consumer was set back"),
    ("looking for messages that may be there already", "streams were read back"),
    ("it is fenced out", "the dead node was fenced out"),
    ("taking over", "the handler was taken over"),
    ("waiting until node", "what another node had left was waited for"),
    ("registers again", "the node registered again"),
    // Not where they are merely slow.
    ("postgres cannot be used, waiting for it: fault point", "Postgres was waited for"),
    ("publishing cannot be used, waiting for it: fault point", "the connection was made anew"),
    ("publishing cannot be used, waiting for it: no acknow", "the connection was made anew"),
    ("read-back cannot be used, waiting for it: fault point", "the streams were waited for"),
    ("CHAOS of chaos cannot be used, waiting for it: fault point", "the consumer was waited for"),
    ("is undeliverable and set aside", "a message was set aside"),
    ("were taken after all", "what was set aside was sent"),
];

/// What counters of a host say, and the cases in which they surely do: in others it is chance.
const COUNTED: &[(&str, &str, &[&str])] = &[
    (
        "tribox_duplicates_total{handler=\"chaos\"}",
        "the inbox met duplicates",
        &[
            "after-commit error",
            "after-commit kill",
            "before-ack error",
            "parked error",
            "parked kill",
            "scheduled error",
            "scheduled kill",
        ],
    ),
    ("tribox_published_again_total", "a stream was sent what it had", &["puback-seen error"]),
];

/// What the logs of a case tell.
pub fn of_logs(logs: &[String]) -> Facts {
    let told = TOLD.iter().filter(|(text, _)| logs.iter().any(|log| log.contains(text)));
    told.map(|(_, fact)| (*fact).to_owned()).collect()
}

/// What the counters of a host tell.
///
/// # Errors
/// It does not answer.
pub async fn of_counters(host: &Host, case: &str) -> Result<Facts> {
    let mut facts = Facts::new();
    for (name, fact, _) in COUNTED.iter().filter(|(_, _, cases)| cases.contains(&case)) {
        if host.metric(name).await? > 0.0 {
            facts.insert((*fact).to_owned());
        }
    }
    Ok(facts)
}

fn file() -> PathBuf {
    programs::repository().join("tests/suite/faults/recovery.txt")
}

/// The transcript: for each case a line, and below it what happened; `~`: what may have.
fn parse(text: &str) -> BTreeMap<String, (Facts, Facts)> {
    let mut book: BTreeMap<String, (Facts, Facts)> = BTreeMap::new();
    let mut case = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let Some(fact) = line.strip_prefix("  ") else {
            line.clone_into(&mut case);
            book.entry(case.clone()).or_default();
            continue;
        };
        let facts = book.entry(case.clone()).or_default();
        match fact.strip_prefix("~ ") {
            Some(fact) => facts.1.insert(fact.to_owned()),
            None => facts.0.insert(fact.to_owned()),
        };
    }
    book
}

/// What differs from the transcript; with `TRIBOX_RECOVERY=write`, the transcript takes it up
/// instead. `all`: no case is missing, so none may stand there beside them.
///
/// # Errors
/// The transcript cannot be read or written.
pub fn compare(found: &Book, all: bool) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let mut book = parse(&text);
    if std::env::var("TRIBOX_RECOVERY").is_ok_and(|what| what == "write") {
        if all {
            book.retain(|case, _| found.contains_key(case));
        }
        write(book, found)?;
        return Ok(Vec::new());
    }
    let mut wrong = Vec::new();
    for (case, facts) in found {
        let Some((must, may)) = book.remove(case) else {
            wrong.push(format!("{case}: it does not stand in {}", file().display()));
            continue;
        };
        let missing = must.difference(facts).map(|fact| format!("{case}: not so: {fact}"));
        wrong.extend(missing);
        let new = facts.iter().filter(|fact| !must.contains(*fact) && !may.contains(*fact));
        wrong.extend(new.map(|fact| format!("{case}: new: {fact}")));
    }
    if all {
        wrong.extend(book.into_keys().map(|case| format!("{case}: there is no such case")));
    }
    Ok(wrong)
}

fn write(mut book: BTreeMap<String, (Facts, Facts)>, found: &Book) -> Result<()> {
    for (case, facts) in found {
        let (must, may) = book.entry(case.clone()).or_insert_with(|| (facts.clone(), Facts::new()));
        may.extend(must.symmetric_difference(facts).cloned());
        must.retain(|fact| facts.contains(fact));
        may.retain(|fact| !must.contains(fact));
    }
    let mut text = String::from(
        "# What recovery does at each fault point, by what its logs and counters say.\n\
         # `~`: it may, by chance.\n\
         # Compared by tests/suite/faults.rs, and written by it with TRIBOX_RECOVERY=write.\n",
    );
    for (case, (must, may)) in book {
        text.push_str(&format!("\n{case}\n"));
        must.iter().for_each(|fact| text.push_str(&format!("  {fact}\n")));
        may.iter().for_each(|fact| text.push_str(&format!("  ~ {fact}\n")));
    }
    std::fs::write(file(), text).context("the transcript cannot be written")
}
