//! A client of the test's nats-server: publishes, and reads streams back as an independent reader.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::{
    self,
    consumer::{self, DeliverPolicy, pull},
    context::PublishAckFuture,
    publish::PublishAck,
    stream,
};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::wait_until;

/// A connection to one nats-server.
#[derive(Debug, Clone)]
pub struct Broker {
    pub client: async_nats::Client,
    pub jetstream: jetstream::Context,
}

/// A message as it stands in a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    pub sequence: u64,
    pub subject: String,
    /// Its `Nats-Msg-Id`.
    pub id: Option<String>,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

impl Stored {
    /// The payload as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

impl Broker {
    /// Connects; it goes on connecting by itself when the server goes away and comes back.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn connect(url: &str) -> Result<Self> {
        Broker::connect_to(&[url.to_owned()]).await
    }

    /// Connects to one of several servers of a cluster, and to another one when that goes away.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn connect_to(urls: &[String]) -> Result<Self> {
        let client = async_nats::ConnectOptions::new()
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .connect(urls)
            .await
            .with_context(|| format!("failed to connect to {}", urls.join(",")))?;
        Ok(Broker { jetstream: jetstream::new(client.clone()), client })
    }

    /// Makes a stream of these subjects, in files, with JetStream's own defaults.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn create_stream(&self, name: &str, subjects: &[&str]) -> Result<()> {
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let config = stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        self.create_stream_with(config).await
    }

    /// Makes a stream with settings of one's own.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn create_stream_with(&self, config: stream::Config) -> Result<()> {
        let name = config.name.clone();
        let made = self.jetstream.create_stream(config).await;
        made.map(|_| ()).with_context(|| format!("failed to make stream {name}"))
    }

    /// Publishes under an id and waits until a stream has it.
    ///
    /// # Errors
    /// No stream takes it.
    pub async fn publish_as(
        &self,
        id: &str,
        subject: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PublishAck> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        self.publish_with(headers, subject, payload).await
    }

    /// Publishes without an id and waits until a stream has it.
    ///
    /// # Errors
    /// No stream takes it.
    pub async fn publish(&self, subject: &str, payload: impl Into<Bytes>) -> Result<PublishAck> {
        self.publish_with(HeaderMap::new(), subject, payload).await
    }

    /// Publishes with headers and waits until a stream has it.
    ///
    /// # Errors
    /// No stream takes it.
    pub async fn publish_with(
        &self,
        headers: HeaderMap,
        subject: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PublishAck> {
        let (to, payload) = (subject.to_owned(), payload.into());
        let sent = self.jetstream.publish_with_headers(to, headers, payload).await;
        let published = async { sent?.await };
        published.await.with_context(|| format!("failed to publish to {subject}"))
    }

    /// Publishes many messages (id, subject, payload) in this order, pipelined, and waits until a
    /// stream has them all.
    ///
    /// # Errors
    /// No stream takes one of them, or it is there already.
    pub async fn publish_all<P: Into<Bytes>>(
        &self,
        messages: impl IntoIterator<Item = (String, String, P)>,
    ) -> Result<()> {
        let mut sent = VecDeque::new();
        for (id, subject, payload) in messages {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.as_str());
            let ack = self.jetstream.publish_with_headers(subject, headers, payload.into()).await?;
            sent.push_back((id, ack));
            // Fewer than the client allows to be on their way.
            if sent.len() >= 500
                && let Some(oldest) = sent.pop_front()
            {
                stored(oldest).await?;
            }
        }
        for oldest in sent {
            stored(oldest).await?;
        }
        Ok(())
    }

    /// Publishes a copy of a message, again and again until its stream has forgotten the id and
    /// stores it: for streams with a short dedup window.
    ///
    /// # Errors
    /// The stream goes on knowing the id.
    pub async fn publish_copy(
        &self,
        id: &str,
        subject: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PublishAck> {
        let payload = payload.into();
        wait_until(&format!("the stream has forgotten {id}"), async || {
            match self.publish_as(id, subject, payload.clone()).await {
                Ok(ack) if ack.duplicate => Err("it is told to be a duplicate".to_owned()),
                Ok(ack) => Ok(ack),
                Err(e) => Err(format!("{e:#}")),
            }
        })
        .await
    }

    /// A consumer of a stream as it is now.
    ///
    /// # Errors
    /// There is none.
    pub async fn consumer(&self, stream: &str, name: &str) -> Result<consumer::Info> {
        let stream = self.jetstream.get_stream(stream).await.context(stream.to_owned())?;
        stream.consumer_info(name).await.with_context(|| format!("consumer {name}"))
    }

    /// Waits until a handler's consumer has nothing left: all was delivered and acknowledged.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn settled(&self, stream: &str, handler: &str) -> Result<()> {
        let name = format!("tribox-{handler}");
        wait_until(&format!("{name} has acknowledged all of {stream}"), async || {
            let info = self.consumer(stream, &name).await.map_err(|e| format!("{e:#}"))?;
            match (info.num_pending, info.num_ack_pending) {
                (0, 0) => Ok(()),
                (pending, in_hand) => Err(format!("{pending} undelivered, {in_hand} in hand")),
            }
        })
        .await
    }

    /// Waits until a stream holds so many messages, and reads them.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn read_when(&self, stream: &str, count: u64) -> Result<Vec<Stored>> {
        wait_until(&format!("{stream} has {count} messages"), async || {
            match self.count(stream).await {
                Ok(now) if now >= count => Ok(()),
                Ok(now) => Err(now.to_string()),
                Err(e) => Err(format!("{e:#}")),
            }
        })
        .await?;
        self.read(stream).await
    }

    /// How many messages a stream holds.
    ///
    /// # Errors
    /// There is no such stream, or no server.
    pub async fn count(&self, stream: &str) -> Result<u64> {
        let stream = self.jetstream.get_stream(stream).await.context(stream.to_owned())?;
        Ok(stream.cached_info().state.messages)
    }

    /// Reads a whole stream, as it stands now, in order.
    ///
    /// # Errors
    /// There is no such stream, or no server.
    pub async fn read(&self, stream: &str) -> Result<Vec<Stored>> {
        let handle = self.jetstream.get_stream(stream).await.context(stream.to_owned())?;
        let state = &handle.cached_info().state;
        let mut stored = Vec::new();
        if state.messages == 0 {
            return Ok(stored);
        }
        let config =
            pull::OrderedConfig { deliver_policy: DeliverPolicy::All, ..Default::default() };
        let mut messages = handle.create_consumer(config).await?.messages().await?;
        while let Some(message) = messages.next().await {
            let message = message.with_context(|| format!("failed to read stream {stream}"))?;
            let info = message.info().map_err(anyhow::Error::from_boxed)?;
            let (sequence, last) = (info.stream_sequence, info.pending == 0);
            let headers = message.headers.clone().unwrap_or_default();
            stored.push(Stored {
                sequence,
                subject: message.subject.to_string(),
                id: headers.get("Nats-Msg-Id").map(|id| id.to_string()),
                headers,
                payload: message.payload.clone(),
            });
            // The last sequence may be one that was removed.
            if last || sequence >= state.last_sequence {
                break;
            }
        }
        Ok(stored)
    }
}

async fn stored((id, sent): (String, PublishAckFuture)) -> Result<()> {
    let ack = sent.await.with_context(|| format!("failed to publish {id}"))?;
    ensure!(!ack.duplicate, "{id} is there already");
    Ok(())
}
