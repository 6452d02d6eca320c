//! Pieces of a product in stock, reserved for whoever asks and released again: the handler that
//! `purchases` talks to. Who asks says where the answer goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

/// `stock.<product>.add`.
#[derive(Deserialize)]
struct Add {
    pieces: u32,
}

/// `stock.<product>.reserve`, and the same with `release`.
#[derive(Deserialize)]
struct Reserve {
    purchase: String,
    #[serde(default)]
    pieces: u32,
}

/// Document `stock/<product>`.
#[derive(Default, Serialize, Deserialize)]
struct Product {
    free: u32,
    /// By purchase.
    reserved: BTreeMap<String, u32>,
}

struct Stock;

impl Handler for Stock {
    fn describe() -> Description {
        let keyed = |subject| Subscription::to(subject).key_from_subject(1).read_ahead("stock");
        Description::new("stock", env!("CARGO_PKG_VERSION"))
            .subscribe(keyed("stock.*.add"))
            .subscribe(keyed("stock.*.reserve"))
            .subscribe(keyed("stock.*.release"))
            .collection("stock")
            .publish("purchases.*.reserved")
            .publish("purchases.*.out-of-stock")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let id = message.key()?;
        let mut product: Product = documents::get("stock", id)?.unwrap_or_default();
        let mut effects = Effects::new();
        match message.last_token() {
            "add" => product.free = product.free.saturating_add(message.json::<Add>()?.pieces),
            "reserve" => {
                let Reserve { purchase, pieces } = message.json()?;
                let answer = product.reserve(&purchase, pieces);
                effects.send(format!("purchases.{purchase}.{answer}"), &Answer { product: id })?;
            }
            _ => product.release(&message.json::<Reserve>()?.purchase),
        }
        effects.put("stock", id, &product)?;
        Ok(effects)
    }
}

tribox_guest::export!(Stock);

#[derive(Serialize)]
struct Answer<'a> {
    product: &'a str,
}

impl Product {
    fn reserve(&mut self, purchase: &str, pieces: u32) -> &'static str {
        match self.free.checked_sub(pieces) {
            Some(free) => {
                self.free = free;
                self.reserved.insert(purchase.to_owned(), pieces);
                "reserved"
            }
            None => "out-of-stock",
        }
    }

    /// What was never reserved, or is released already, is no mistake.
    fn release(&mut self, purchase: &str) {
        self.free += self.reserved.remove(purchase).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tribox_guest::testing::{Incoming, TestHost, assert_effects, message};

    use super::*;

    fn stock(verb: &str, payload: &serde_json::Value) -> Incoming {
        message(&format!("stock.tea.{verb}")).json(payload)
    }

    #[test]
    fn what_is_there_is_reserved_and_what_is_released_is_there_again() -> Result<(), Failure> {
        let mut host = TestHost::<Stock>::new();
        host.handle(stock("add", &json!({"pieces": 3})))?;
        let reserve = json!({"purchase": "1", "pieces": 2});
        assert_effects(
            &host.handle(stock("reserve", &reserve))?,
            r#"
            put stock/tea {"free":1,"reserved":{"1":2}}
            send purchases.1.reserved {"product":"tea"}
            "#,
        );
        assert_effects(
            &host.handle(stock("reserve", &json!({"purchase": "2", "pieces": 2})))?,
            r#"
            put stock/tea {"free":1,"reserved":{"1":2}}
            send purchases.2.out-of-stock {"product":"tea"}
            "#,
        );
        let release = json!({"purchase": "1"});
        for _ in 0..2 {
            assert_effects(
                &host.handle(stock("release", &release))?,
                r#"put stock/tea {"free":3,"reserved":{}}"#,
            );
        }
        Ok(())
    }
}
