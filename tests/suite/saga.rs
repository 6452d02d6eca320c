//! A process over two handlers and a payment service that the test plays: guests/purchases and
//! guests/stock, chained by what they publish.

use anyhow::Result;
use serde_json::json;
use tribox_tests::{Stack, wait_until};

async fn stack(name: &str) -> Result<Stack> {
    let mut stack = Stack::new(name).await?;
    let (broker, all) = (&stack.broker, ["purchases.>", "stock.>", "payments.>"]);
    broker.create_stream("SHOP", &all).await?;
    stack.drop_in(&["purchases", "stock"])?;
    stack.config.set("handlers.purchases.retry.backoff", "20ms");
    broker.publish("stock.tea.add", json!({"pieces": 3}).to_string()).await?;
    Ok(stack)
}

async fn place(stack: &Stack, id: u32, pieces: u32) -> Result<()> {
    let place = json!({"product": "tea", "pieces": pieces, "amount": 500}).to_string();
    stack.broker.publish(&format!("purchases.{id}.place"), place).await?;
    Ok(())
}

/// Waits until a purchase is in a state.
async fn comes_to(stack: &Stack, id: u32, state: &str) -> Result<()> {
    wait_until(&format!("purchase {id} is {state}"), async || {
        let found = stack.document("purchases", &id.to_string()).await;
        match found.map_err(|why| format!("{why:#}"))? {
            Some(purchase) if purchase["state"] == state => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn told(stack: &Stack, subject: &str) -> Result<usize> {
    let all = stack.broker.read("SHOP").await?;
    Ok(all.iter().filter(|message| message.subject == subject).count())
}

#[tokio::test]
async fn a_purchase_is_paid_or_undone_whatever_is_late() -> Result<()> {
    let mut stack = stack("saga").await?;
    let host = stack.serve().await?;
    // Paid, and told so twice.
    place(&stack, 1, 2).await?;
    comes_to(&stack, 1, "paying").await?;
    for payment in ["p-1", "p-1"] {
        let paid = json!({"payment": payment}).to_string();
        stack.broker.publish("purchases.1.paid", paid).await?;
    }
    comes_to(&stack, 1, "completed").await?;

    // More than there is.
    place(&stack, 2, 2).await?;
    comes_to(&stack, 2, "cancelled").await?;

    // Never paid: the deadline undoes it, and what comes after that is paid back.
    place(&stack, 3, 1).await?;
    comes_to(&stack, 3, "paying").await?;
    sqlx::query("UPDATE tribox.scheduled SET due_at = now()").execute(&stack.pool).await?;
    comes_to(&stack, 3, "cancelled").await?;
    stack.broker.publish("purchases.3.paid", json!({"payment": "p-3"}).to_string()).await?;
    wait_until("the late payment is sent back", async || {
        match told(&stack, "payments.3.refund").await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    wait_until("what was reserved for it is there again", async || {
        let stock = stack.document("stock", "tea").await.map_err(|why| format!("{why:#}"))?;
        let expected = json!({"free": 1, "reserved": {"1": 2}});
        if stock.as_ref() == Some(&expected) { Ok(()) } else { Err(format!("{stock:?}")) }
    })
    .await?;
    for (subject, count) in [
        ("purchases.events.1.completed", 1),
        ("purchases.events.2.cancelled", 1),
        ("purchases.events.3.cancelled", 1),
        ("payments.1.request", 1),
        ("payments.2.request", 0),
        ("payments.1.refund", 0),
        ("stock.tea.release", 1),
    ] {
        assert_eq!(told(&stack, subject).await?, count, "{subject}");
    }
    assert!(stack.parked().await?.is_empty());
    host.stop().await
}
