//! What the test host refuses, it names: each case is a mistake that the real host refuses as well.

use std::panic::catch_unwind;

use tribox_guest::testing::{Incoming, TestHost, message};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription};
use tribox_guest::{documents, settings};

/// Runs `call`, which must panic, and gives back the text.
fn refusal(call: fn()) -> String {
    let why = catch_unwind(call).expect_err("the test host refuses it");
    let text = why.downcast_ref::<String>().cloned();
    text.or_else(|| why.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// A handler by its description and what it does.
macro_rules! handler {
    ($name:ident, $describe:expr, $handle:expr) => {
        struct $name;

        impl Handler for $name {
            fn describe() -> Description {
                $describe
            }

            fn handle(message: Message) -> Result<Effects, Failure> {
                let handle: fn(Message, &mut Effects) -> Result<(), Failure> = $handle;
                let mut effects = Effects::new();
                handle(message, &mut effects)?;
                Ok(effects)
            }
        }
    };
}

fn described() -> Description {
    Description::new("plain", "1").subscribe(Subscription::to("in")).publish("out").collection("c")
}

#[test]
fn bad_descriptions() {
    handler!(NoName, Description::new("No Name", "1"), |_, _| Ok(()));
    handler!(Deaf, Description::new("deaf", "1"), |_, _| Ok(()));
    handler!(Twice, described().subscribe(Subscription::to(">")), |_, _| Ok(()));
    handler!(
        Ahead,
        described().subscribe(Subscription::to("a.*").key_from_subject(1).read_ahead("other")),
        |_, _| Ok(())
    );
    handler!(NoKey, described().subscribe(Subscription::to("a.*").read_ahead("c")), |_, _| Ok(()));
    handler!(
        Reads,
        documents::get::<u64>("c", "k").map(|_| described()).expect("a document"),
        |_, _| Ok(())
    );
    handler!(
        FarToken,
        described().subscribe(Subscription::to("a.*").key_from_subject(2)),
        |_, _| Ok(())
    );
    handler!(Api, described().publish("$JS.API.>"), |_, _| Ok(()));
    let cases: [(fn(), &str); 8] = [
        (|| drop(TestHost::<FarToken>::new()), "'a.*' is token 2, which it does not have"),
        (|| drop(TestHost::<Api>::new()), "subject '$JS.API.>' belongs to NATS itself"),
        (|| drop(TestHost::<NoName>::new()), "name 'No Name' must be"),
        (|| drop(TestHost::<Deaf>::new()), "it has no subscription"),
        (|| drop(TestHost::<Twice>::new()), "subscriptions 'in' and '>' overlap"),
        (|| drop(TestHost::<Ahead>::new()), "reads ahead 'other', an undeclared collection"),
        (|| drop(TestHost::<NoKey>::new()), "subscription 'a.*' reads ahead but has no key"),
        (|| drop(TestHost::<Reads>::new()), "describe reads collection 'c'"),
    ];
    for (case, expected) in cases {
        let why = refusal(case);
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

#[test]
fn bad_effects() {
    handler!(Wildcard, described().publish("events.>"), |_, effects| {
        effects.send("events.*", &0).map(drop)
    });
    handler!(EmptyKey, described(), |_, effects| effects.put("c", "", &0).map(drop));
    handler!(NoHeader, described(), |_, effects| {
        effects.send("out", &0)?.header("A", "b\r\nc");
        Ok(())
    });
    handler!(HostsOwn, described(), |_, effects| {
        effects.send("out", &0)?.header("Tribox-Hops", "0");
        Ok(())
    });
    handler!(Both, described(), |_, effects| {
        effects.send("out", &0)?.transient().at(1);
        Ok(())
    });
    handler!(NoSchedule, described(), |_, effects| {
        effects.cancel("");
        Ok(())
    });
    let cases: [(fn(), &str); 6] = [
        (handled::<Wildcard>, "subject 'events.*' has a wildcard"),
        (handled::<EmptyKey>, "has 0 bytes; 1 to 1,024 are allowed"),
        (handled::<NoHeader>, "the value of header A has CR, LF or NUL"),
        (handled::<HostsOwn>, "header Tribox-Hops is the host's"),
        (handled::<Both>, "a transient message takes no due time"),
        (handled::<NoSchedule>, "must have 1 to 255 bytes"),
    ];
    for (case, expected) in cases {
        let why = refusal(case);
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

fn handled<H: Handler>() {
    drop(TestHost::<H>::new().handle(message("in")));
}

#[test]
fn messages_that_would_not_arrive() {
    handler!(
        Keyed,
        described()
            .subscribe(Subscription::to("h").key_from_header("Account"))
            .subscribe(Subscription::to("p").key_from_payload("/account")),
        |_, _| Ok(())
    );
    fn sent(incoming: Incoming) {
        drop(TestHost::<Keyed>::new().handle(incoming));
    }
    let cases: [(fn(), &str); 4] = [
        (|| sent(message("elsewhere")), "no subscription of 'plain' matches elsewhere"),
        (|| sent(message("h")), "the message has no key: header Account is not there"),
        (|| sent(message("p").bytes("{")), "payload field /account is not there"),
        (|| sent(message("h").header("Account", "")), "header Account, has 0 bytes"),
    ];
    for (case, expected) in cases {
        let why = refusal(case);
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

#[test]
fn reading_outside_of_a_call() {
    let why = refusal(|| drop(settings::get("threshold")));
    assert!(why.contains("code outside of a host reads setting 'threshold'"), "{why}");
}

#[test]
fn keys_come_from_where_the_subscription_says() -> Result<(), Failure> {
    handler!(
        Echo,
        described()
            .subscribe(Subscription::to("h").key_from_header("Account"))
            .subscribe(Subscription::to("p").key_from_payload("/account")),
        |message, effects| {
            assert!(message.headers.is_sorted_by_key(|header| header.name.clone()));
            effects.put("c", message.key()?, &message.id).map(drop)
        }
    );
    let mut host = TestHost::<Echo>::new();
    host.handle(message("h").id("m-1").header("Account", "a"))?;
    host.handle(
        message("p").bytes(r#"{"account":7}"#).header("ce-source", "/s").header("ce-id", "2"),
    )?;
    assert_eq!(host.document::<String>("c", "a").as_deref(), Some("m-1"));
    assert_eq!(host.document::<String>("c", "7").as_deref(), Some("/s#2"));
    Ok(())
}

#[test]
fn lists_go_by_prefix_in_pages() -> Result<(), Failure> {
    handler!(Lister, described(), |_, effects| {
        let page = documents::page::<u64>("c", "a/", Some("a/0000"), 2)?;
        let keys: Vec<&String> = page.iter().map(|(key, _)| key).collect();
        effects.put("c", "page", &keys)?;
        effects.put("c", "all", &documents::list::<u64>("c", "a/")?.len())?;
        Ok(())
    });
    let mut host = TestHost::<Lister>::new().with_document("c", "b", &0);
    for n in 0..2_500 {
        host = host.with_document("c", &format!("a/{n:04}"), &n);
    }
    host.handle(message("in"))?;
    assert_eq!(host.document("c", "page"), Some(vec!["a/0001".to_owned(), "a/0002".to_owned()]));
    assert_eq!(host.document::<usize>("c", "all"), Some(2_500));
    Ok(())
}
