//! Counts by key and sends as many messages as it is set to: what the benchmark's sweeps run, also
//! many times under different names.
//!
//! `load.<name>.<key>.do` with any JSON object; document `load/<key>` and messages
//! `loaded.<key>.<n>` hold its field `pad`. Setting `outgoing` is the number of messages.

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use tribox_guest::{
    Description, Effects, Failure, Handler, Message, Subscription, documents, settings,
};

/// Written over in copies of the component, by names of the same length.
const NAME: &str = "load-copy-number-00";
const COLLECTION: &str = "load";

#[derive(Deserialize)]
struct Command {
    #[serde(default)]
    pad: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
    pad: String,
}

#[derive(Serialize)]
struct Counted<'a> {
    key: &'a str,
    count: u64,
    pad: &'a str,
}

struct Load;

impl Handler for Load {
    fn describe() -> Description {
        // Not known to the compiler, so that it stands in the component in one place and whole.
        let name = black_box(NAME);
        let subject = format!("load.{name}.*.do");
        Description::new(name, env!("CARGO_PKG_VERSION"))
            .subscribe(Subscription::to(&subject).key_from_subject(2).read_ahead(COLLECTION))
            .collection(COLLECTION)
            .publish("loaded.*.*")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let key = message.key()?;
        let Command { pad } = message.json()?;
        let mut counter: Counter = documents::get(COLLECTION, key)?.unwrap_or_default();
        counter.count += 1;
        counter.pad = pad;
        let mut effects = Effects::new();
        let outgoing: u32 = settings::get_or("outgoing", 1)?;
        let counted = Counted { key, count: counter.count, pad: &counter.pad };
        for n in 0..outgoing {
            effects.send(format!("loaded.{key}.{n}"), &counted)?;
        }
        effects.put(COLLECTION, key, &counter)?;
        Ok(effects)
    }
}

tribox_guest::export!(Load);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tribox_guest::testing::{TestHost, assert_effects, message};

    use super::*;

    #[test]
    fn one_message_goes_out_where_nothing_is_set() -> Result<(), Failure> {
        let mut host = TestHost::<Load>::new();
        let command = message("load.load-copy-number-00.7.do").json(&json!({"pad": "x"}));
        assert_effects(
            &host.handle(command)?,
            r#"
            put load/7 {"count":1,"pad":"x"}
            send loaded.7.0 {"key":"7","count":1,"pad":"x"}
            "#,
        );
        Ok(())
    }
}
