use serde_json::json;
use tribox_guest::testing::{Incoming, TestHost, assert_effects, message};

use super::*;

fn added(basket: &str, price: u64) -> Incoming {
    message(&format!("baskets.{basket}.add"))
        .json(&json!({"product": "tea", "price": price, "quantity": 1}))
}

fn price_changed(price: u64, version: u64) -> Incoming {
    message("products.tea.price-changed").json(&Price { price, version })
}

#[test]
fn every_basket_that_holds_the_product_gets_one_alert() -> Result<(), Failure> {
    let mut host = TestHost::<Baskets>::new();
    assert_effects(
        &host.handle(added("ann", 100))?,
        r#"
        put baskets/ann {"lines":{"tea":{"price":100,"quantity":1}}}
        put basket_products/tea/ann true
        "#,
    );
    assert_effects(
        &host.handle(price_changed(120, 1))?,
        r#"
        put products/tea {"price":120,"version":1}
        put baskets/ann {"lines":{"tea":{"price":120,"quantity":1}}}
        send baskets.events.ann.price-alert {"basket":"ann","product":"tea","old":100,"new":120}
        "#,
    );
    Ok(())
}

#[test]
fn changes_that_come_twice_or_late_do_nothing() -> Result<(), Failure> {
    let mut host = TestHost::<Baskets>::new();
    host.handle(added("ann", 100))?;
    host.handle(price_changed(130, 3))?;
    for version in [3, 2, 1] {
        assert_effects(&host.handle(price_changed(90, version))?, "");
    }
    assert_eq!(host.handle(price_changed(140, 4))?.messages.len(), 1);
    Ok(())
}

#[test]
fn a_product_is_added_at_the_price_that_is_known() -> Result<(), Failure> {
    let mut host = TestHost::<Baskets>::new();
    host.handle(price_changed(120, 1))?;
    host.handle(added("ann", 100))?;
    assert_effects(
        &host.handle(added("ann", 100))?,
        r#"
        put baskets/ann {"lines":{"tea":{"price":120,"quantity":2}}}
        put basket_products/tea/ann true
        "#,
    );
    Ok(())
}

#[test]
fn many_baskets_are_updated_page_by_page() -> Result<(), Failure> {
    let mut host = TestHost::<Baskets>::new();
    for basket in ["a", "b", "c"] {
        host.handle(added(basket, 100))?;
    }
    let first = host.handle(price_changed(120, 1))?;
    let [_, _, rest] = &first.messages[..] else { panic!("expected three messages:\n{first}") };
    assert_eq!(rest.to_string(), r#"send products.tea.reprice {"version":1,"after":"tea/b"}"#);

    let go_on = || message("products.tea.reprice").bytes(rest.payload.clone());
    let second = host.handle(go_on())?;
    assert_eq!(second.messages.len(), 1, "{second}");
    assert_eq!(second.messages[0].subject, "baskets.events.c.price-alert");

    host.handle(price_changed(130, 2))?;
    assert_effects(&host.handle(go_on())?, "");
    Ok(())
}

#[test]
fn a_basket_without_the_product_is_left_alone() -> Result<(), Failure> {
    // `tea/green` is a product of its own, though its index keys begin with those of `tea`.
    let mut host = TestHost::<Baskets>::new();
    let green = json!({"product": "tea/green", "price": 5, "quantity": 1});
    host.handle(message("baskets.ann.add").json(&green))?;
    assert_effects(
        &host.handle(price_changed(9, 1))?,
        r#"put products/tea {"price":9,"version":1}"#,
    );
    Ok(())
}
