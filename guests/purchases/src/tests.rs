use serde_json::json;
use tribox_guest::testing::{Incoming, TestHost, assert_effects, message};

use super::*;

fn at(verb: &str) -> Incoming {
    message(&format!("purchases.1.{verb}")).json(&json!({"payment": "p-9"}))
}

/// A host in which purchase 1 has got these messages.
fn host(verbs: &[&str]) -> Result<TestHost<Purchases>, Failure> {
    let mut host = TestHost::new();
    let place = json!({"product": "tea", "pieces": 2, "amount": 500});
    host.handle(message("purchases.1.place").json(&place))?;
    for verb in verbs {
        host.handle(at(verb))?;
    }
    Ok(host)
}

fn state(host: &TestHost<Purchases>) -> Option<State> {
    host.document::<Purchase>("purchases", "1").map(|purchase| purchase.state)
}

#[test]
fn what_goes_well_ends_with_the_parcel() -> Result<(), Failure> {
    let mut host = host(&[])?;
    assert_effects(
        &host.handle(at("reserved"))?,
        r#"
        put purchases/1 {"product":"tea","pieces":2,"amount":500,"state":"paying"}
        send payments.1.request {"purchase":"1","amount":500}
        send purchases.1.give-up {} [after 900000 ms, as give-up-1]
        "#,
    );
    assert_effects(
        &host.handle(at("paid"))?,
        r#"
        put purchases/1 {"product":"tea","pieces":2,"amount":500,"state":"completed","payment":"p-9"}
        cancel give-up-1
        send purchases.events.1.completed {"purchase":"1","product":"tea","pieces":2}
        "#,
    );
    assert!(host.scheduled("give-up-1").is_none());
    Ok(())
}

#[test]
fn what_is_not_paid_in_time_is_undone_and_late_money_goes_back() -> Result<(), Failure> {
    let mut host = host(&["reserved"])?;
    assert_effects(
        &host.handle(at("give-up"))?,
        r#"
        put purchases/1 {"product":"tea","pieces":2,"amount":500,"state":"cancelled"}
        cancel give-up-1
        send stock.tea.release {"purchase":"1"}
        send purchases.events.1.cancelled {"purchase":"1","why":"not-paid-in-time"}
        "#,
    );
    assert_effects(
        &host.handle(at("paid"))?,
        r#"send payments.1.refund {"purchase":"1","payment":"p-9"}"#,
    );
    assert_eq!(state(&host), Some(State::Cancelled));
    Ok(())
}

#[test]
fn nothing_is_released_that_was_never_reserved() -> Result<(), Failure> {
    let mut host = host(&[])?;
    assert_effects(
        &host.handle(at("out-of-stock"))?,
        r#"
        put purchases/1 {"product":"tea","pieces":2,"amount":500,"state":"cancelled"}
        send purchases.events.1.cancelled {"purchase":"1","why":"out-of-stock"}
        "#,
    );
    Ok(())
}

#[test]
fn a_deadline_that_was_on_its_way_already_does_nothing() -> Result<(), Failure> {
    let mut host = host(&["reserved", "paid"])?;
    for verb in ["give-up", "paid", "reserved", "declined"] {
        assert_effects(&host.handle(at(verb))?, "");
    }
    assert_eq!(state(&host), Some(State::Completed));
    Ok(())
}

#[test]
fn an_answer_before_its_question_waits() {
    let mut host = TestHost::<Purchases>::new();
    let early = host.handle(at("reserved"));
    assert_eq!(early, Err(Failure::retry("purchase 1 is not placed yet")));
}
