//! Three nats-servers as one cluster, for streams that are kept three times.

use anyhow::{Context, Result};
use tribox::servers::{NatsOptions, PrivateNats, any_free_port};

use crate::{Broker, Stack, StackOptions, programs, wait_until};

/// The servers beside the one that the stack has.
#[derive(Debug)]
pub struct Cluster {
    others: [PrivateNats; 2],
}

impl Cluster {
    /// A stack whose nats-server is one of three, with clients that know all of them.
    ///
    /// # Errors
    /// A server or program is missing or does not start.
    pub async fn start(name: &str) -> Result<(Stack, Cluster)> {
        let ports = [any_free_port()?, any_free_port()?, any_free_port()?];
        let options = |n: usize| {
            let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
            let listen = ports[n];
            let cluster = format!(
                "{{ name: three, listen: \"127.0.0.1:{listen}\", no_advertise: true, \
                 routes: [{routes}] }}"
            );
            NatsOptions {
                program: Some(programs::nats_server()),
                settings: vec![("cluster".to_owned(), cluster)],
                ..NatsOptions::default()
            }
        };
        let first = StackOptions { nats: options(0), ..StackOptions::default() };
        let mut stack = Stack::with(name, first).await?;
        let second = PrivateNats::start(&stack.directory().join("nats-2"), options(1)).await?;
        let third = PrivateNats::start(&stack.directory().join("nats-3"), options(2)).await?;
        let urls = [stack.nats.url(), second.url(), third.url()];
        stack.config.set("nats.url", urls.join(","));
        stack.broker = Broker::connect_to(&urls).await?;
        Ok((stack, Cluster { others: [second, third] }))
    }

    /// The server that leads a stream; one is waited for where it is still to be elected.
    ///
    /// # Errors
    /// Nobody leads it in time.
    pub async fn leader<'a>(
        &'a mut self,
        stack: &'a mut Stack,
        stream: &str,
    ) -> Result<&'a mut PrivateNats> {
        let leader = wait_until("the stream has a leader", async || {
            let asked = stack.broker.jetstream.get_stream(stream).await;
            let info = asked.map_err(|why| why.to_string())?;
            let leader = info.cached_info().cluster.as_ref().and_then(|c| c.leader.clone());
            leader.ok_or("it has none".to_owned())
        })
        .await?;
        let mut servers = std::iter::once(&mut stack.nats).chain(&mut self.others);
        let found = servers.find(|server| server.name() == leader);
        found.with_context(|| format!("no server is named {leader}"))
    }
}
