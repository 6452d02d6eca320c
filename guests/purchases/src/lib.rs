//! A purchase, from the order to the parcel or to its end: a process (a saga) over a stock and a payment
//! service that may answer late, twice, or never. The process is a document and a function from its
//! state and a message to what happens next; the deadline is a message to itself.
//!
//! What was done is undone by messages: who has reserved pieces and is not paid in time releases them,
//! and money that comes after that goes back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribox_guest::{
    Description, Effects, Failure, Handler, Message, Subscription, documents, settings,
};

/// How long a payment may take, unless setting `patience-ms` says otherwise.
const PATIENCE: u64 = 15 * 60 * 1000;

/// `purchases.<id>.place`.
#[derive(Deserialize)]
struct Place {
    product: String,
    pieces: u32,
    /// Cents.
    amount: u64,
}

/// `purchases.<id>.paid`, from whoever does payments.
#[derive(Deserialize)]
struct Paid {
    payment: String,
}

/// Document `purchases/<id>`: where the process stands.
#[derive(Serialize, Deserialize)]
struct Purchase {
    product: String,
    pieces: u32,
    amount: u64,
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// The stock is asked.
    Reserving,
    /// The payment is asked for, and its deadline runs.
    Paying,
    /// It is paid and told to be sent.
    Completed,
    /// It has ended otherwise; what was done is undone.
    Cancelled,
}

struct Purchases;

impl Handler for Purchases {
    fn describe() -> Description {
        let verbs = ["place", "reserved", "out-of-stock", "paid", "declined", "give-up"];
        verbs
            .into_iter()
            .map(|verb| format!("purchases.*.{verb}"))
            .map(|to| Subscription::to(to).key_from_subject(1).read_ahead("purchases"))
            .fold(Description::new("purchases", env!("CARGO_PKG_VERSION")), Description::subscribe)
            .collection("purchases")
            .publish("purchases.events.*.*")
            .publish("purchases.*.give-up")
            .publish("stock.*.reserve")
            .publish("stock.*.release")
            .publish("payments.*.request")
            .publish("payments.*.refund")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let id = message.key()?;
        let purchase: Option<Purchase> = documents::get("purchases", id)?;
        match (message.last_token(), purchase) {
            ("place", None) => place(id, message.json()?),
            ("place", Some(_)) => Err(Failure::reject(format!("purchase {id} is placed already"))),
            // An answer that is quicker than the question was committed: it waits.
            (_, None) => Err(Failure::retry(format!("purchase {id} is not placed yet"))),
            (verb, Some(purchase)) => go_on(id, purchase, verb, &message),
        }
    }
}

tribox_guest::export!(Purchases);

fn place(id: &str, Place { product, pieces, amount }: Place) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    let reserve = Reserve { purchase: id, pieces: Some(pieces) };
    effects.send(format!("stock.{product}.reserve"), &reserve)?;
    let purchase = Purchase { product, pieces, amount, state: State::Reserving, payment: None };
    effects.put("purchases", id, &purchase)?;
    Ok(effects)
}

/// The whole process: what each message means in each state. What means nothing any more, because it
/// came twice or too late, changes nothing.
fn go_on(id: &str, purchase: Purchase, verb: &str, message: &Message) -> Result<Effects, Failure> {
    match (purchase.state, verb) {
        (State::Reserving, "reserved") => ask_for_payment(id, purchase),
        (State::Reserving, "out-of-stock") => cancel(id, purchase, "out-of-stock"),
        (State::Paying, "paid") => complete(id, purchase, message.json()?),
        (State::Paying, "declined") => cancel(id, purchase, "declined"),
        (State::Paying, "give-up") => cancel(id, purchase, "not-paid-in-time"),
        // The money came after the end: it goes back.
        (State::Cancelled, "paid") => refund(id, message.json()?),
        _ => Ok(Effects::new()),
    }
}

fn ask_for_payment(id: &str, mut purchase: Purchase) -> Result<Effects, Failure> {
    let patience = settings::get_or("patience-ms", PATIENCE)?;
    let mut effects = Effects::new();
    let request = Request { purchase: id, amount: purchase.amount };
    effects.send(format!("payments.{id}.request"), &request)?;
    effects
        .send(format!("purchases.{id}.give-up"), &Empty {})?
        .after(Duration::from_millis(patience))
        .named(deadline(id));
    purchase.state = State::Paying;
    effects.put("purchases", id, &purchase)?;
    Ok(effects)
}

fn complete(id: &str, mut purchase: Purchase, paid: Paid) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.cancel(deadline(id));
    purchase.state = State::Completed;
    purchase.payment = Some(paid.payment);
    effects.put("purchases", id, &purchase)?;
    let told = Completed { purchase: id, product: &purchase.product, pieces: purchase.pieces };
    effects.send(format!("purchases.events.{id}.completed"), &told)?;
    Ok(effects)
}

/// Undoes what was done: pieces that are reserved are released, the deadline is taken back.
fn cancel(id: &str, mut purchase: Purchase, why: &str) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    if purchase.state == State::Paying {
        effects.cancel(deadline(id));
        let release = Reserve { purchase: id, pieces: None };
        effects.send(format!("stock.{}.release", purchase.product), &release)?;
    }
    purchase.state = State::Cancelled;
    effects.put("purchases", id, &purchase)?;
    effects.send(format!("purchases.events.{id}.cancelled"), &Cancelled { purchase: id, why })?;
    Ok(effects)
}

fn refund(id: &str, Paid { payment }: Paid) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.send(format!("payments.{id}.refund"), &Refund { purchase: id, payment: &payment })?;
    Ok(effects)
}

fn deadline(id: &str) -> String {
    format!("give-up-{id}")
}

/// What is sent.
#[derive(Serialize)]
struct Reserve<'a> {
    purchase: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pieces: Option<u32>,
}

#[derive(Serialize)]
struct Request<'a> {
    purchase: &'a str,
    amount: u64,
}

#[derive(Serialize)]
struct Refund<'a> {
    purchase: &'a str,
    payment: &'a str,
}

#[derive(Serialize)]
struct Completed<'a> {
    purchase: &'a str,
    product: &'a str,
    pieces: u32,
}

#[derive(Serialize)]
struct Cancelled<'a> {
    purchase: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct Empty {}

#[cfg(test)]
mod tests;
