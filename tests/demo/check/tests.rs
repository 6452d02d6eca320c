//! An audit that finds nothing proves something only if it finds what is there to be found.

use super::*;

/// What a host leaves that did everything right.
struct World {
    plan: Plan,
    rows: Vec<Row>,
    commands: Vec<Stored>,
    events: Vec<Stored>,
}

impl World {
    fn new() -> Self {
        let plan = Plan::new();
        let mut rows = Vec::new();
        let mut world_events = Vec::new();
        for (key, account) in &plan.accounts {
            let body = json!({"balance": account.balance, "changes": account.changes});
            rows.push(("accounts".to_owned(), key.clone(), body));
            let events = account.events.iter();
            world_events.extend(events.map(|event| ("accounts", key.clone(), event.clone())));
        }
        for (key, order) in &plan.orders {
            rows.push(("orders".to_owned(), key.clone(), json!({"lines": order.lines})));
            let events = order.events.iter();
            world_events.extend(events.map(|event| ("orders", key.clone(), event.clone())));
        }
        let events = world_events.into_iter().enumerate().map(|(n, (family, key, event))| {
            stored(&format!("e-{n}"), &format!("{family}.events.{key}.{}", event.0), &event.1)
        });
        let commands = plan.commands.iter().map(|c| stored(&c.id, &c.subject, &c.payload));
        World { rows, commands: commands.collect(), events: events.collect(), plan }
    }

    /// The numbers of the findings that are wrong.
    fn wrong(&self) -> Vec<usize> {
        let audit = compare(&self.plan, &self.rows, &self.commands, &self.events);
        let findings = audit.findings.iter().enumerate();
        findings.filter(|(_, finding)| !finding.wrong.is_empty()).map(|(n, _)| n).collect()
    }

    fn find(&self, suffix: &str) -> usize {
        self.events.iter().position(|event| event.subject.ends_with(suffix)).unwrap()
    }
}

fn stored(id: &str, subject: &str, payload: &Value) -> Stored {
    Stored {
        sequence: 0,
        subject: subject.to_owned(),
        id: Some(id.to_owned()),
        headers: async_nats::HeaderMap::new(),
        payload: payload.to_string().into(),
    }
}

const PUBLISHED: usize = 0;
const STATE: usize = 1;
const ONCE: usize = 2;
const FIRST: usize = 3;
const ORDER: usize = 4;

#[test]
fn a_right_world_passes_and_duplicates_are_counted() {
    let mut world = World::new();
    world.commands.push(world.commands[7].clone());
    assert_eq!(world.wrong(), [0; 0]);
    let audit = compare(&world.plan, &world.rows, &world.commands, &world.events);
    assert_eq!(audit.duplicates, 1);
    assert!(world.plan.accounts.values().any(|account| account.events.len() > 100));
    for kind in ["low-balance", "overdrawn", "first-item-added"] {
        world.find(kind);
    }
}

#[test]
fn a_wrong_balance_or_a_lost_line_is_found() {
    let mut world = World::new();
    world.rows[0].2["balance"] = json!(-1);
    assert_eq!(world.wrong(), [STATE]);
    let mut world = World::new();
    world.rows.pop();
    assert_eq!(world.wrong(), [STATE]);
    world.rows.push(("strangers".to_owned(), "1".to_owned(), json!({})));
    assert_eq!(world.wrong(), [STATE]);
}

#[test]
fn an_event_that_is_lost_doubled_or_changed_is_found() {
    let mut world = World::new();
    world.events.remove(5);
    assert_eq!(world.wrong(), [ONCE, ORDER]);

    // Sent twice under the same id; computed twice and sent under another.
    for id in ["e-5", "other"] {
        let mut world = World::new();
        let mut doubled = world.events[5].clone();
        doubled.id = Some(id.to_owned());
        world.events.push(doubled);
        assert_eq!(world.wrong(), [ONCE, ORDER]);
    }

    let mut world = World::new();
    let at = world.find("balance-changed");
    let mut body = world.events[at].json();
    body["balance"] = json!(0.5);
    world.events[at].payload = body.to_string().into();
    assert_eq!(world.wrong(), [ORDER]);
}

#[test]
fn first_item_added_is_once_for_each_order() {
    let mut world = World::new();
    let mut again = world.events[world.find("first-item-added")].clone();
    again.id = Some("other".to_owned());
    world.events.push(again);
    assert_eq!(world.wrong(), [ONCE, FIRST, ORDER]);
    let mut world = World::new();
    world.events.remove(world.find("first-item-added"));
    assert_eq!(world.wrong(), [ONCE, FIRST, ORDER]);
}

#[test]
fn events_out_of_order_and_commands_that_are_missing_are_found() {
    let mut world = World::new();
    let account = world.plan.accounts.keys().next().unwrap();
    let subject = format!("accounts.events.{account}.balance-changed");
    let of_one = world.events.iter().enumerate().filter(|(_, e)| e.subject == subject);
    let two: Vec<usize> = of_one.map(|(n, _)| n).take(2).collect();
    world.events.swap(two[0], two[1]);
    assert_eq!(world.wrong(), [ORDER]);
    let mut world = World::new();
    world.commands.pop();
    assert_eq!(world.wrong(), [PUBLISHED]);
}
