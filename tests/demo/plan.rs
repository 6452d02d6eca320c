//! What is published, and what must come of it: computed here, from the commands alone, by other
//! code than the handlers'.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub const COMMANDS: usize = 20_000;
/// One command in ten is published twice.
pub const DUPLICATES: usize = COMMANDS / 10;
/// Below this balance an account is low: cents, as the demo's config says.
pub const THRESHOLD: i64 = 1_000;
const ACCOUNTS: u64 = 200;
const ORDERS: u64 = 500;

/// A message to a handler.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its `Nats-Msg-Id`.
    pub id: String,
    pub subject: String,
    pub payload: Value,
}

/// Commands in the order in which they are published, and their consequences.
#[derive(Debug, Default)]
pub struct Plan {
    pub commands: Vec<Command>,
    pub accounts: BTreeMap<String, Account>,
    pub orders: BTreeMap<String, Order>,
}

/// What an account comes to.
#[derive(Debug, Default)]
pub struct Account {
    pub balance: i64,
    pub changes: u64,
    pub events: Vec<Event>,
}

/// What an order comes to.
#[derive(Debug, Default)]
pub struct Order {
    pub lines: Vec<Value>,
    pub events: Vec<Event>,
}

/// The last token of an event's subject, and its body.
pub type Event = (String, Value);

impl Plan {
    /// The same each time.
    pub fn new() -> Self {
        let mut dice = Dice(20_000);
        let mut plan = Plan::default();
        for number in 0..COMMANDS {
            let id = format!("demo-{number}");
            if dice.roll(10) < 7 {
                let account = format!("A{:03}", dice.roll(ACCOUNTS));
                let amount = i64::try_from(dice.roll(500)).unwrap_or(0) + 1;
                let signed = if dice.roll(2) == 0 { -amount } else { amount };
                plan.change(id, account, signed);
            } else {
                let order = format!("O{:03}", dice.roll(ORDERS));
                let item = format!("item-{}", dice.roll(50));
                plan.add(id, order, json!({"item": item, "quantity": dice.roll(9) + 1}));
            }
        }
        plan
    }

    /// How many events there must be in the end.
    pub fn events(&self) -> usize {
        self.accounts.values().map(|account| account.events.len()).sum::<usize>()
            + self.orders.values().map(|order| order.events.len()).sum::<usize>()
    }

    fn change(&mut self, id: String, account: String, amount: i64) {
        let verb = if amount < 0 { "debit" } else { "credit" };
        let subject = format!("accounts.{account}.{verb}");
        self.commands.push(Command { id, subject, payload: json!({"amount": amount.abs()}) });
        let state = self.accounts.entry(account.clone()).or_default();
        let before = state.balance;
        state.balance += amount;
        state.changes += 1;
        let (balance, sequence) = (state.balance, state.changes);
        let mut event = |kind: &str, body| state.events.push((kind.to_owned(), body));
        event(
            "balance-changed",
            json!({"account": account, "amount": amount, "balance": balance, "sequence": sequence}),
        );
        if before >= THRESHOLD && balance < THRESHOLD {
            event(
                "low-balance",
                json!({"account": account, "balance": balance, "threshold": THRESHOLD}),
            );
        }
        if before >= 0 && balance < 0 {
            event("overdrawn", json!({"account": account, "balance": balance}));
        }
    }

    fn add(&mut self, id: String, order: String, line: Value) {
        let subject = format!("orders.{order}.add-item");
        self.commands.push(Command { id, subject, payload: line.clone() });
        let state = self.orders.entry(order.clone()).or_default();
        state.lines.push(line.clone());
        let (item, quantity) = (&line["item"], &line["quantity"]);
        let number = state.lines.len();
        let added = json!({"order": order, "item": item, "quantity": quantity, "line": number});
        state.events.push(("item-added".to_owned(), added));
        if number == 1 {
            let first = json!({"order": order, "item": item});
            state.events.push(("first-item-added".to_owned(), first));
        }
    }
}

/// SplitMix64: enough for a demo, and the same everywhere.
struct Dice(u64);

impl Dice {
    /// 0 to `sides` - 1.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}
