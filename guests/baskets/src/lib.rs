//! Price changes that reach every basket once, in whatever order they arrive: the
//! `ProductPriceChanged` example of eShopOnContainers.
//!
//! Baskets are ordered by basket and price changes by product, so both meet in shared documents.
//! The host guards what was read, lists included: of an `add` and a change of price at the same
//! time, one is handled anew. Either the change finds the basket in the list, or the basket finds
//! the new price at the product.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

/// How many baskets one message updates. Each is a document read, one put and one message sent;
/// the contract allows 10,000 effects.
const PAGE: u32 = if cfg!(test) { 2 } else { 500 };

/// `baskets.<id>.add`.
#[derive(Deserialize)]
struct Add {
    product: String,
    /// Cents; counts only as long as no change of the product's price came.
    price: u64,
    quantity: u32,
}

/// `products.<id>.price-changed`, and document `products/<id>`.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Price {
    price: u64,
    /// Higher with each change of the product's price.
    version: u64,
}

/// `products.<id>.reprice`, which this handler sends to itself: the baskets after key `after`.
#[derive(Serialize, Deserialize)]
struct Reprice {
    version: u64,
    after: String,
}

/// Document `baskets/<id>`. Document `basket_products/<product>/<basket>` stands for each line.
#[derive(Default, Serialize, Deserialize)]
struct Basket {
    lines: BTreeMap<String, Line>,
}

#[derive(Default, Serialize, Deserialize)]
struct Line {
    price: u64,
    quantity: u32,
}

/// `baskets.events.<id>.price-alert`.
#[derive(Serialize)]
struct PriceAlert<'a> {
    basket: &'a str,
    product: &'a str,
    old: u64,
    new: u64,
}

struct Baskets;

impl Handler for Baskets {
    fn describe() -> Description {
        let keyed = |subject| Subscription::to(subject).key_from_subject(1);
        Description::new("baskets", env!("CARGO_PKG_VERSION"))
            .subscribe(keyed("baskets.*.add").read_ahead("baskets"))
            .subscribe(keyed("products.*.price-changed").read_ahead("products"))
            .subscribe(keyed("products.*.reprice").read_ahead("products"))
            .collection("baskets")
            .collection("products")
            .collection("basket_products")
            .publish("baskets.events.>")
            .publish("products.*.reprice")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let id = message.key()?;
        match message.last_token() {
            "add" => add(id, message.json()?),
            "price-changed" => price_changed(id, message.json()?),
            _ => go_on(id, message.json()?),
        }
    }
}

tribox_guest::export!(Baskets);

fn add(id: &str, add: Add) -> Result<Effects, Failure> {
    let Add { product, price, quantity } = &add;
    let known: Option<Price> = documents::get("products", product)?;
    let mut basket: Basket = documents::get("baskets", id)?.unwrap_or_default();
    let line = basket.lines.entry(product.clone()).or_default();
    line.price = known.map_or(*price, |known| known.price);
    line.quantity = line
        .quantity
        .checked_add(*quantity)
        .ok_or_else(|| Failure::reject(format!("basket {id} cannot hold {quantity} more")))?;

    let mut effects = Effects::new();
    effects.put("baskets", id, &basket)?;
    effects.put("basket_products", &format!("{product}/{id}"), &true)?;
    Ok(effects)
}

/// A change that comes twice, or after a later one, finds its version known and does nothing.
fn price_changed(product: &str, change: Price) -> Result<Effects, Failure> {
    let known: Option<Price> = documents::get("products", product)?;
    let mut effects = Effects::new();
    if known.is_none_or(|known| known.version < change.version) {
        effects.put("products", product, &change)?;
        reprice(product, change, None, &mut effects)?;
    }
    Ok(effects)
}

/// The next baskets, unless a later change has begun anew with all of them.
fn go_on(product: &str, Reprice { version, after }: Reprice) -> Result<Effects, Failure> {
    let known: Option<Price> = documents::get("products", product)?;
    let mut effects = Effects::new();
    if let Some(price) = known.filter(|known| known.version == version) {
        reprice(product, price, Some(&after), &mut effects)?;
    }
    Ok(effects)
}

fn reprice(
    product: &str,
    Price { price, version }: Price,
    after: Option<&str>,
    effects: &mut Effects,
) -> Result<(), Failure> {
    let prefix = format!("{product}/");
    let entries: Vec<(String, bool)> = documents::page("basket_products", &prefix, after, PAGE)?;
    for (key, _) in &entries {
        let id = &key[prefix.len()..];
        let Some(mut basket) = documents::get::<Basket>("baskets", id)? else { continue };
        let Some(line) = basket.lines.get_mut(product) else { continue };
        if line.price == price {
            continue;
        }
        let old = std::mem::replace(&mut line.price, price);
        effects.put("baskets", id, &basket)?;
        let alert = PriceAlert { basket: id, product, old, new: price };
        effects.send(format!("baskets.events.{id}.price-alert"), &alert)?;
    }
    if let Some((after, _)) = entries.last().filter(|_| entries.len() == PAGE as usize) {
        let rest = Reprice { version, after: after.clone() };
        effects.send(format!("products.{product}.reprice"), &rest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
