//! A cluster of three nats-servers with streams that are kept three times: the leader of a stream is killed
//! under load, and comes back.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Result;
use tribox_tests::{Cluster, wait_within};

use crate::books::{self, COMMANDS, EVENTS};
use crate::ledger::{self, Ledger, left};

/// How long all may take to recover.
const PATIENCE: Duration = Duration::from_secs(90);
const HANDLED: &str = "SELECT count(*) FROM tribox.inbox";

#[tokio::test]
async fn leaders_of_streams_are_killed_under_load() -> Result<()> {
    let (mut stack, mut cluster) = Cluster::start("cluster").await?;
    stack.config.set("node.lease", "2s");
    wait_within(PATIENCE, "streams are made", async || {
        books::prepare_replicated(&stack, 3).await.map_err(|why| format!("{why:#}"))
    })
    .await?;
    let mut hosts = Vec::new();
    for name in ["a", "b"] {
        stack.config.set("node.name", name);
        hosts.push(stack.serve().await?);
    }
    let (broker, over) = (stack.broker.clone(), Cell::new(false));
    let killing = async {
        for stream in [COMMANDS, EVENTS, COMMANDS] {
            let before = stack.number(HANDLED).await?;
            stack.until_at_least(HANDLED, before + 200).await?;
            let leader = cluster.leader(&mut stack, stream).await?;
            leader.kill()?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            leader.start_again().await?;
        }
        over.set(true);
        anyhow::Ok(())
    };
    let ((), commands) = tokio::try_join!(killing, ledger::load(&broker, &over))?;
    let stuck =
        wait_within(PATIENCE, "nothing is left to do", async || left(&stack, commands).await).await;
    let ledger = ledger::ledger(&stack, commands, stuck.is_err()).await?;
    println!("{commands} commands: {ledger}");
    // The order of what is published is not held here: docs/GUARANTEES.md, 5, says where it ends.
    let Ledger { lost, applied_twice, published_twice, stuck: stands, .. } = ledger;
    let found = (lost, applied_twice, published_twice, stands);
    assert_eq!(found, (0, 0, 0, 0), "{ledger}; {stuck:?}");
    for host in hosts {
        host.stop().await?;
    }
    Ok(())
}
