//! Debits and credits of accounts: Wolverine's `DebitAccount` example, with its low-balance warning
//! and its ten-day deadline for an overdrawn account.
//!
//! The balance, the events and the deadline are committed together with the command. A command that
//! arrives twice is handled once; the commands of one account are handled in order.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribox_guest::{
    Description, Effects, Failure, Handler, Message, Subscription, Timestamp, documents, settings,
};

const GRACE: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// `accounts.<id>.debit` and `accounts.<id>.credit`.
#[derive(Deserialize)]
struct Command {
    /// Cents, above zero.
    amount: i64,
    /// What the bank statement shows.
    reference: Option<String>,
}

/// `accounts.<id>.enforce-overdrawn`: EnforceAccountOverdrawnDeadline, which this handler sends to
/// itself.
#[derive(Serialize, Deserialize)]
struct Deadline {
    /// When the account became overdrawn.
    since: Timestamp,
}

/// Document `accounts/<id>`.
#[derive(Default, Serialize, Deserialize)]
struct Account {
    /// Cents.
    balance: i64,
    /// How many debits and credits there were.
    changes: u64,
    /// The reference of the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overdrawn_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    blocked: bool,
}

#[derive(Serialize)]
struct BalanceChanged<'a> {
    account: &'a str,
    amount: i64,
    balance: i64,
    /// Counts the changes of the account from 1, without gaps.
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

#[derive(Serialize)]
struct LowBalanceDetected<'a> {
    account: &'a str,
    balance: i64,
    threshold: i64,
}

/// Also the body of AccountBlocked.
#[derive(Serialize)]
struct AccountOverdrawn<'a> {
    account: &'a str,
    balance: i64,
}

struct Accounts;

impl Handler for Accounts {
    fn describe() -> Description {
        let commands = ["accounts.*.debit", "accounts.*.credit", "accounts.*.enforce-overdrawn"];
        commands
            .into_iter()
            .map(|subject| Subscription::to(subject).key_from_subject(1).read_ahead("accounts"))
            .fold(Description::new("accounts", env!("CARGO_PKG_VERSION")), Description::subscribe)
            .collection("accounts")
            .publish("accounts.events.*.*")
            .publish("accounts.*.enforce-overdrawn")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let id = message.key()?;
        let account: Account = documents::get("accounts", id)?.unwrap_or_default();
        match message.last_token() {
            "debit" => change(id, account, -1, command(&message)?, message.stored_at),
            "credit" => change(id, account, 1, command(&message)?, message.stored_at),
            _ => enforce(id, account, message.json()?),
        }
    }
}

tribox_guest::export!(Accounts);

fn command(message: &Message) -> Result<Command, Failure> {
    let command: Command = message.json()?;
    if command.amount <= 0 {
        return Err(Failure::reject(format!("amount {} must be above zero", command.amount)));
    }
    Ok(command)
}

fn change(
    id: &str,
    mut account: Account,
    sign: i64,
    command: Command,
    now: Timestamp,
) -> Result<Effects, Failure> {
    let amount = sign * command.amount;
    let threshold: i64 = settings::get_or("threshold", 100)?;
    let before = account.balance;
    let balance = before
        .checked_add(amount)
        .ok_or_else(|| Failure::reject(format!("{before} and {amount} are too much to add")))?;
    account.balance = balance;
    account.changes += 1;
    account.reference = command.reference;

    let mut effects = Effects::new();
    let sequence = account.changes;
    let reference = account.reference.as_deref();
    let changed = BalanceChanged { account: id, amount, balance, sequence, reference };
    effects.send(format!("accounts.events.{id}.balance-changed"), &changed)?;

    if before >= threshold && balance < threshold {
        let low = LowBalanceDetected { account: id, balance, threshold };
        effects.send(format!("accounts.events.{id}.low-balance"), &low)?;
    }
    if before >= 0 && balance < 0 {
        account.overdrawn_since = Some(now);
        let overdrawn = AccountOverdrawn { account: id, balance };
        effects.send(format!("accounts.events.{id}.overdrawn"), &overdrawn)?;
        effects
            .send(format!("accounts.{id}.enforce-overdrawn"), &Deadline { since: now })?
            .at(now + GRACE.as_millis() as Timestamp)
            .named(deadline(id));
    }
    if before < 0 && balance >= 0 {
        account.overdrawn_since = None;
        account.blocked = false;
        effects.cancel(deadline(id));
    }
    effects.put("accounts", id, &account)?;
    Ok(effects)
}

/// A credit takes the deadline back only as long as it is not yet due, so look again: is the
/// account overdrawn still, and since then?
fn enforce(id: &str, mut account: Account, deadline: Deadline) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    if account.overdrawn_since == Some(deadline.since) {
        account.blocked = true;
        effects.put("accounts", id, &account)?;
        let blocked = AccountOverdrawn { account: id, balance: account.balance };
        effects.send(format!("accounts.events.{id}.blocked"), &blocked)?;
    }
    Ok(effects)
}

fn deadline(id: &str) -> String {
    format!("overdrawn-{id}")
}

#[cfg(test)]
mod tests;
