//! The tests against real servers, a file for each thing that must hold.

/// Makes each of these functions a test against nats-server as it is now, and one against the
/// oldest that is supported.
macro_rules! on_each_nats_server {
    ($($test:ident),+ $(,)?) => {
        mod newest {
            $(#[tokio::test]
            async fn $test() -> anyhow::Result<()> {
                super::$test(&tribox_tests::programs::nats_server()).await
            })+
        }
        mod oldest {
            $(#[tokio::test]
            async fn $test() -> anyhow::Result<()> {
                super::$test(&tribox_tests::programs::oldest_nats_server()).await
            })+
        }
    };
}

mod bad_config;
mod bad_files;
mod bad_messages;
mod bad_servers;
mod books;
mod cargo_component;
mod chaos;
mod check_against;
mod cluster;
mod commands;
mod contract;
mod crash;
mod deliver;
mod dev;
mod disasters;
mod doctor;
mod duplicate;
mod failover;
mod failure;
mod faults;
mod full_disk;
mod fuzz;
mod golden;
mod intake;
mod interop;
mod invoke;
mod json;
mod languages;
mod layers;
mod ledger;
mod leftovers;
mod load;
mod loops;
mod middleware;
mod new_project;
mod nodes;
mod order;
mod parked_by_hand;
mod parked_discard;
mod parked_show;
mod parked_tool;
mod partitions;
mod pause_tool;
mod pooler;
mod relay;
mod relay_tool;
mod restored;
mod rules;
mod saga;
mod sandbox;
mod schedule;
mod scheduled_tool;
mod servers;
mod shutdown;
mod soak;
mod stacks;
mod stalled;
mod statements;
mod status_tool;
mod tutorial;
mod undelivered_tool;
mod whole;
