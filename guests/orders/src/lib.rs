//! Lines of an order, and the first of them told apart: the example of the talk and posts on
//! exactly-once at exactly-once.github.io, where a retry sees two lines and `FirstItemAdded` is
//! never sent. Here a retry starts from the committed order, so it is sent exactly once.

use serde::{Deserialize, Serialize};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

/// `orders.<id>.add-item`, and a line of the order.
#[derive(Clone, Serialize, Deserialize)]
struct AddItem {
    item: String,
    quantity: u32,
}

/// Document `orders/<id>`.
#[derive(Default, Serialize, Deserialize)]
struct Order {
    lines: Vec<AddItem>,
}

#[derive(Serialize)]
struct ItemAdded<'a> {
    order: &'a str,
    item: &'a str,
    quantity: u32,
    /// Counts the lines of the order from 1.
    line: usize,
}

#[derive(Serialize)]
struct FirstItemAdded<'a> {
    order: &'a str,
    item: &'a str,
}

struct Orders;

impl Handler for Orders {
    fn describe() -> Description {
        Description::new("orders", env!("CARGO_PKG_VERSION"))
            .subscribe(
                Subscription::to("orders.*.add-item").key_from_subject(1).read_ahead("orders"),
            )
            .collection("orders")
            .publish("orders.events.>")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let id = message.key()?;
        let add: AddItem = message.json()?;
        if add.quantity == 0 {
            return Err(Failure::reject("quantity 0 adds nothing"));
        }
        let mut order: Order = documents::get("orders", id)?.unwrap_or_default();
        let first = order.lines.is_empty();
        order.lines.push(add.clone());

        let mut effects = Effects::new();
        effects.put("orders", id, &order)?;
        let AddItem { item, quantity } = &add;
        let added = ItemAdded { order: id, item, quantity: *quantity, line: order.lines.len() };
        effects.send(format!("orders.events.{id}.item-added"), &added)?;
        if first {
            let first = FirstItemAdded { order: id, item };
            effects.send(format!("orders.events.{id}.first-item-added"), &first)?;
        }
        Ok(effects)
    }
}

tribox_guest::export!(Orders);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tribox_guest::testing::{Incoming, TestHost, assert_effects, message};

    use super::*;

    fn add(item: &str, quantity: u32) -> Incoming {
        message("orders.42.add-item").json(&json!({"item": item, "quantity": quantity}))
    }

    #[test]
    fn only_the_first_item_of_an_order_is_the_first() -> Result<(), Failure> {
        let mut host = TestHost::<Orders>::new();
        assert_effects(
            &host.handle(add("tea", 2))?,
            r#"
            put orders/42 {"lines":[{"item":"tea","quantity":2}]}
            send orders.events.42.item-added {"order":"42","item":"tea","quantity":2,"line":1}
            send orders.events.42.first-item-added {"order":"42","item":"tea"}
            "#,
        );
        assert_effects(
            &host.handle(add("cup", 1))?,
            r#"
            put orders/42 {"lines":[{"item":"tea","quantity":2},{"item":"cup","quantity":1}]}
            send orders.events.42.item-added {"order":"42","item":"cup","quantity":1,"line":2}
            "#,
        );
        Ok(())
    }

    #[test]
    fn an_item_that_is_refused_is_not_the_first() -> Result<(), Failure> {
        let mut host = TestHost::<Orders>::new();
        assert_eq!(host.handle(add("tea", 0)), Err(Failure::reject("quantity 0 adds nothing")));
        assert!(host.handle(add("tea", 1))?.to_string().contains("first-item-added"));
        Ok(())
    }
}
