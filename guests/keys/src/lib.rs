//! Tells under which key each message came: an example of keys that are no part of the subject, and
//! what tests send messages without a usable key to.
//!
//! `keys.header` has its key in the header `Order`, `keys.payload` in the field `/order/id`.

use serde_json::json;
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription};

struct Keys;

impl Handler for Keys {
    fn describe() -> Description {
        Description::new("keys", env!("CARGO_PKG_VERSION"))
            .subscribe(Subscription::to("keys.header").key_from_header("Order"))
            .subscribe(Subscription::to("keys.payload").key_from_payload("/order/id"))
            .publish("keys.told")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let mut effects = Effects::new();
        effects.send("keys.told", &json!({"id": message.id, "key": message.key()?}))?;
        Ok(effects)
    }
}

tribox_guest::export!(Keys);

#[cfg(test)]
mod tests {
    use tribox_guest::testing::{TestHost, assert_effects, message};

    use super::*;

    #[test]
    fn the_key_is_told() -> Result<(), Failure> {
        let mut host = TestHost::<Keys>::new();
        let create = message("keys.payload").id("m-1").json(&json!({"order": {"id": 7}}));
        assert_effects(&host.handle(create)?, r#"send keys.told {"id":"m-1","key":"7"}"#);
        Ok(())
    }
}
