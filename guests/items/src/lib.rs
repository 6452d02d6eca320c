//! Creates items and tells everybody. It is the smallest handler that does something: change it into
//! one of your own.

use serde::{Deserialize, Serialize};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

/// `items.create`.
#[derive(Deserialize)]
struct CreateItem {
    /// Without one, the message's id is the item's.
    id: Option<String>,
    name: String,
}

/// Document `items/<id>`, and the payload of `items.created`.
#[derive(Serialize, Deserialize)]
struct Item {
    id: String,
    name: String,
}

struct Items;

impl Handler for Items {
    fn describe() -> Description {
        Description::new("items", env!("CARGO_PKG_VERSION"))
            .subscribe(Subscription::to("items.create"))
            .collection("items")
            .publish("items.created")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let create: CreateItem = message.json()?;
        let item = Item { id: create.id.unwrap_or(message.id), name: create.name };
        if let Some(Item { name, .. }) = documents::get("items", &item.id)? {
            return Err(Failure::reject(format!("item {} is there already: {name}", item.id)));
        }

        let mut effects = Effects::new();
        effects.put("items", &item.id, &item)?;
        effects.send("items.created", &item)?;
        Ok(effects)
    }
}

tribox_guest::export!(Items);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tribox_guest::testing::{TestHost, assert_effects, message};

    use super::*;

    #[test]
    fn an_item_is_stored_and_told() -> Result<(), Failure> {
        let mut host = TestHost::<Items>::new();
        let create = message("items.create").json(&json!({"id": "7", "name": "lamp"}));
        assert_effects(
            &host.handle(create)?,
            r#"
            put items/7 {"id":"7","name":"lamp"}
            send items.created {"id":"7","name":"lamp"}
            "#,
        );
        Ok(())
    }

    #[test]
    fn an_item_without_an_id_takes_that_of_its_message() -> Result<(), Failure> {
        let mut host = TestHost::<Items>::new();
        host.handle(message("items.create").id("m-1").json(&json!({"name": "lamp"})))?;
        let item: Option<Item> = host.document("items", "m-1");
        assert_eq!(item.map(|item| item.name).as_deref(), Some("lamp"));
        Ok(())
    }

    #[test]
    fn an_id_is_taken_once() -> Result<(), Failure> {
        let mut host = TestHost::<Items>::new();
        let create = message("items.create").json(&json!({"id": "7", "name": "lamp"}));
        host.handle(create.clone())?;
        let again = host.handle(create);
        assert_eq!(again, Err(Failure::reject("item 7 is there already: lamp")));
        Ok(())
    }
}
