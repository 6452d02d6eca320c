//! What the demo prints in the end.

use tribox_tests::Stack;

use crate::check::Audit;
use crate::plan::{DUPLICATES, Plan};
use crate::publish::EVENTS;
use crate::run::Course;

/// Differences shown of each finding; more would hide the first.
const SHOWN: usize = 5;

/// Prints the table and says whether all is as it must be.
pub fn print(plan: &Plan, course: &Course, audit: &Audit) -> bool {
    println!();
    let row = |name: &str, value: String| println!("  {name:<24}{value}");
    row("commands", format!("{} handled once each", thousands(plan.commands.len())));
    row(
        "duplicates met",
        format!(
            "{} of {} published twice got past JetStream's own window",
            thousands(audit.duplicates),
            thousands(DUPLICATES)
        ),
    );
    row(
        "redeliveries",
        format!(
            "{} after the kill -9 at {}",
            thousands_u64(course.redelivered),
            thousands_u64(course.killed_at)
        ),
    );
    row("events", format!("{} published", thousands(audit.events)));
    row("rate", format!("{} commands/s until the kill", thousands_u64(course.rate as u64)));
    row(
        "time",
        format!(
            "{:.1} s in all, {:.2} s of it from kill to ready",
            course.elapsed.as_secs_f64(),
            course.restart.as_secs_f64()
        ),
    );
    println!();
    let mut wrong = 0;
    if audit.duplicates != DUPLICATES {
        println!("  WRONG  {} duplicates met, and {DUPLICATES} were due", audit.duplicates);
        wrong += 1;
    }
    for finding in &audit.findings {
        let mark = if finding.wrong.is_empty() { "ok   " } else { "WRONG" };
        println!("  {mark}  {}", finding.what);
        for line in finding.wrong.iter().take(SHOWN) {
            println!("           {line}");
        }
        if finding.wrong.len() > SHOWN {
            println!("           and {} more", finding.wrong.len() - SHOWN);
        }
        wrong += usize::from(!finding.wrong.is_empty());
    }
    println!();
    match wrong {
        0 => println!("Verdict: the books balance."),
        _ => println!("Verdict: {wrong} of the above do not hold."),
    }
    wrong == 0
}

/// Says how to see it with other tools.
pub fn how_to_look(stack: &Stack, kept: bool) {
    println!();
    if !kept {
        println!("Look for yourself: `make demo DEMO=--keep` leaves both servers running.");
        return;
    }
    let (postgres, nats) = (stack.database_url(), stack.nats_url());
    println!("Look for yourself:");
    let accounts = "SELECT key, body FROM tribox.documents WHERE collection = 'accounts' LIMIT 5";
    println!("  psql {postgres} -c \"{accounts}\"");
    println!("  psql {postgres} -c \"SELECT count(*), min(handled_at) FROM tribox.inbox\"");
    println!("  nats --server {nats} stream ls");
    println!("  nats --server {nats} stream view {EVENTS}");
    println!("Enter or Ctrl-C stops both servers and removes their data.");
}

/// `20000` as `20,000`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn thousands_u64(number: u64) -> String {
    thousands(usize::try_from(number).unwrap_or(usize::MAX))
}
