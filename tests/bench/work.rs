//! The work that every variant does: a 200-byte command, a document of some 200 bytes read and
//! written, a 200-byte event. The native code here is what the `accounts` guest does.

use serde::{Deserialize, Serialize};

use crate::Shape;

pub const COMMANDS: &str = "COMMANDS";
pub const EVENTS: &str = "EVENTS";

#[derive(Serialize, Deserialize)]
pub struct Command {
    pub amount: i64,
    pub reference: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Account {
    pub balance: i64,
    pub changes: u64,
    pub reference: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub struct Event {
    pub account: String,
    pub amount: i64,
    pub balance: i64,
    pub sequence: u64,
    pub reference: Option<String>,
}

/// The nth command of a run: its id, subject and payload. Amounts are 1, so that the balance of an
/// account is the number of its commands.
pub fn command(n: usize, shape: &Shape) -> (String, String, Vec<u8>) {
    let account = n % shape.keys;
    let reference = format!("{n:09}-{}", "x".repeat(shape.padding));
    let payload = format!("{{\"amount\":1,\"reference\":\"{reference}\"}}");
    (format!("command-{n}"), format!("accounts.{account}.credit"), payload.into_bytes())
}

/// The account that a subject names.
pub fn account_of(subject: &str) -> &str {
    subject.split('.').nth(1).unwrap_or_default()
}

/// Handles a command: the document and the event that come of it.
///
/// # Errors
/// Command or document do not parse.
pub fn handle(
    account: &str,
    document: Option<&str>,
    payload: &[u8],
) -> serde_json::Result<(String, Vec<u8>)> {
    let command: Command = serde_json::from_slice(payload)?;
    let mut state: Account = document.map(serde_json::from_str).transpose()?.unwrap_or_default();
    state.balance += command.amount;
    state.changes += 1;
    state.reference = command.reference;
    let event = Event {
        account: account.to_owned(),
        amount: command.amount,
        balance: state.balance,
        sequence: state.changes,
        reference: state.reference.clone(),
    };
    Ok((serde_json::to_string(&state)?, serde_json::to_vec(&event)?))
}

/// Where the event of an account goes.
pub fn event_subject(account: &str) -> String {
    format!("accounts.events.{account}.balance-changed")
}
