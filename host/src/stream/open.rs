//! Opening the durable consumer of one handler in one stream: finding it or making it, and setting it back
//! where order matters and something was lost.

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, PullConsumer};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;

use super::NatsError;
use super::consume::Reader;
use super::retrace::filters_of;
use crate::fault::{self, Point};

impl Reader {
    /// Opens the consumer once this node surely is what it was.
    pub(super) async fn open_if_held(
        &self,
        expected: Option<u64>,
    ) -> Result<Option<(PullConsumer, u64)>, NatsError> {
        self.fence.held().await;
        self.open(expected).await
    }

    /// Finds or makes the consumer; returns it with the consumer sequence of its next delivery, or
    /// nothing where the stream is gone.
    async fn open(&self, expected: Option<u64>) -> Result<Option<(PullConsumer, u64)>, NatsError> {
        let Some(stream) = self.stream().await? else { return Ok(None) };
        let last = stream.cached_info().state.last_sequence;
        self.look_back(last, "the stream has lost its end: it gives sequences a second time");
        let durable = self.consumption.unit.durable();
        let info = match stream.consumer_info(&durable).await {
            Ok(info) => Some(info),
            Err(why) if why.kind() == ConsumerInfoErrorKind::NotFound => None,
            Err(why) => return Err(NatsError::passing("the consumer cannot be read", &why)),
        };
        let Some(info) = info else {
            tracing::info!(
                handler = %self.consumption.unit,
                stream = self.consumption.stream,
                after = self.source.floor(),
                "making consumer {durable}"
            );
            return Ok(Some((self.create(&stream, self.source.floor()).await?, 1)));
        };
        let delivered = info.delivered.stream_sequence;
        self.look_back(delivered, "the consumer, or the stream with it, was set back");
        let delivered = info.delivered.consumer_sequence;
        let lost = match expected {
            Some(expected) => delivered + 1 != expected,
            // Somebody before us left messages in hand, or still asks for more (it is frozen, say).
            None => info.num_ack_pending > 0 || info.num_waiting > 0,
        };
        self.lag.set(info.num_pending);
        let acknowledged = info.ack_floor.stream_sequence;
        if expected.is_none() {
            self.source.advance(acknowledged);
        }
        let has = filters_of(&info.config);
        let filters = self.consumption.filters.of_existing(&stream.cached_info().config, &has);
        if self.consumption.ordered && lost {
            // What the consumer was told, not what we know: if the stream lost its end, it knows
            // better, and what comes twice is met by the inbox.
            return Ok(Some((self.set_back(&stream, &durable, acknowledged).await?, 1)));
        }
        let unchanged = self.consumption.config(info.config.deliver_policy, filters);
        let consumer = stream
            .create_consumer(unchanged)
            .await
            .map_err(|why| NatsError::passing("the consumer cannot be updated", &why))?;
        Ok(Some((consumer, delivered + 1)))
    }

    /// The stream, unless it is gone or a later one has its name.
    pub(super) async fn stream(&self) -> Result<Option<Stream>, NatsError> {
        use jetstream::context::GetStreamErrorKind;
        let name = &self.consumption.stream;
        match self.nats.jetstream.get_stream(name).await {
            Ok(stream) => {
                let created = stream.cached_info().created.unix_timestamp();
                Ok((created == self.source.created).then_some(stream))
            }
            Err(why) => match why.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(NatsError::passing("the stream cannot be read", &why)),
            },
        }
    }

    /// Notes where a stream or its consumer stands, which must not be before what was handled.
    fn look_back(&self, last: u64, what: &str) {
        if self.consumption.ordered && self.source.went_back(last) {
            tracing::warn!(
                handler = %self.consumption.unit,
                stream = self.consumption.stream,
                last,
                "{what}; what comes from here on is told from what was handled by its id"
            );
        }
    }

    async fn create(&self, stream: &Stream, after: u64) -> Result<PullConsumer, NatsError> {
        let policy = match after {
            0 => DeliverPolicy::All,
            floor => DeliverPolicy::ByStartSequence { start_sequence: floor + 1 },
        };
        let filters = self.consumption.filters.of_new(&stream.cached_info().config);
        let config = self.consumption.config(policy, filters);
        let created = stream.create_consumer(config).await;
        let made =
            created.map_err(|why| NatsError::passing("the consumer cannot be made", &why))?;
        fault::point(Point::ConsumerMade)?;
        Ok(made)
    }

    /// Makes the consumer anew right behind what was acknowledged without a gap.
    pub(super) async fn set_back(
        &self,
        stream: &Stream,
        durable: &str,
        after: u64,
    ) -> Result<PullConsumer, NatsError> {
        self.metrics.resets.inc();
        tracing::info!(
            handler = %self.consumption.unit,
            stream = self.consumption.stream,
            after,
            "setting consumer {durable} back"
        );
        stream
            .delete_consumer(durable)
            .await
            .map_err(|why| NatsError::passing("the consumer cannot be set back", &why))?;
        fault::point(Point::ConsumerDeleted)?;
        self.create(stream, after).await
    }
}
