use serde_json::{Value, json};
use tribox_guest::testing::{Incoming, STORED_AT, TestHost, assert_effects, message};

use super::*;

fn command(verb: &str, amount: i64) -> Incoming {
    message(&format!("accounts.7.{verb}")).json(&json!({ "amount": amount }))
}

fn host(balance: i64) -> TestHost<Accounts> {
    TestHost::new().with_document("accounts", "7", &json!({"balance": balance, "changes": 1}))
}

#[test]
fn a_credit_opens_the_account_and_changes_are_counted() -> Result<(), Failure> {
    let mut host = TestHost::<Accounts>::new();
    assert_effects(
        &host.handle(command("credit", 5))?,
        r#"
        put accounts/7 {"balance":5,"changes":1}
        send accounts.events.7.balance-changed {"account":"7","amount":5,"balance":5,"sequence":1}
        "#,
    );
    assert_effects(
        &host.handle(command("debit", 2))?,
        r#"
        put accounts/7 {"balance":3,"changes":2}
        send accounts.events.7.balance-changed {"account":"7","amount":-2,"balance":3,"sequence":2}
        "#,
    );
    Ok(())
}

#[test]
fn the_low_balance_is_told_when_it_is_crossed_and_not_again() -> Result<(), Failure> {
    let mut host = host(100).with_setting("threshold", 60);
    assert!(!host.handle(command("debit", 40))?.to_string().contains("low-balance"));
    assert_effects(
        &host.handle(command("debit", 1))?,
        r#"
        put accounts/7 {"balance":59,"changes":3}
        send accounts.events.7.balance-changed {"account":"7","amount":-1,"balance":59,"sequence":3}
        send accounts.events.7.low-balance {"account":"7","balance":59,"threshold":60}
        "#,
    );
    assert!(!host.handle(command("debit", 1))?.to_string().contains("low-balance"));
    Ok(())
}

#[test]
fn an_overdrawn_account_gets_a_deadline_that_a_credit_takes_back() -> Result<(), Failure> {
    let mut host = host(2);
    assert_effects(
        &host.handle(command("debit", 3))?,
        r#"
        put accounts/7 {"balance":-1,"changes":2,"overdrawn_since":1767225600000}
        send accounts.events.7.balance-changed {"account":"7","amount":-3,"balance":-1,"sequence":2}
        send accounts.events.7.overdrawn {"account":"7","balance":-1}
        send accounts.7.enforce-overdrawn {"since":1767225600000} [at 1768089600000, as overdrawn-7]
        "#,
    );
    assert!(host.scheduled("overdrawn-7").is_some());

    assert_effects(
        &host.handle(command("credit", 1))?,
        r#"
        put accounts/7 {"balance":0,"changes":3}
        cancel overdrawn-7
        send accounts.events.7.balance-changed {"account":"7","amount":1,"balance":0,"sequence":3}
        "#,
    );
    assert!(host.scheduled("overdrawn-7").is_none());
    Ok(())
}

#[test]
fn the_deadline_blocks_only_who_is_overdrawn_since_then() -> Result<(), Failure> {
    let enforce = |since| message("accounts.7.enforce-overdrawn").json(&Deadline { since });
    let mut host = host(0);
    assert_effects(&host.handle(enforce(STORED_AT))?, "");

    host.handle(command("debit", 5))?;
    assert_effects(&host.handle(enforce(STORED_AT - 1))?, "");
    assert_effects(
        &host.handle(enforce(STORED_AT))?,
        r#"
        put accounts/7 {"balance":-5,"changes":2,"overdrawn_since":1767225600000,"blocked":true}
        send accounts.events.7.blocked {"account":"7","balance":-5}
        "#,
    );
    host.handle(command("credit", 5))?;
    let account: Value = host.document("accounts", "7").unwrap_or_default();
    assert_eq!(account, json!({"balance": 0, "changes": 3}));
    Ok(())
}

#[test]
fn commands_that_make_no_sense_are_rejected() {
    let mut host = host(i64::MAX);
    for (command, expected) in [
        (command("debit", 0), "amount 0 must be above zero"),
        (command("credit", 1), "too much to add"),
        (message("accounts.7.debit").bytes("{"), "the payload of accounts.7.debit is not"),
    ] {
        match host.handle(command) {
            Err(Failure::Reject(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("expected a reject, got {other:?}"),
        }
    }
}

#[test]
fn a_threshold_that_is_no_number_holds_the_message_back() {
    let mut host = host(0).with_setting("threshold", "plenty");
    assert_eq!(
        host.handle(command("credit", 1)),
        Err(Failure::retry(
            "setting 'threshold' is 'plenty', which is not valid: invalid digit found in string"
        ))
    );
}
