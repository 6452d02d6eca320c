//! Consumers that stand still: messages wait, and nothing is delivered. The server has lost what it asks of
//! the consumer, say, or somebody has paused it by hand. It is made anew behind what it was told was
//! handled; the inbox meets what comes again.

use super::NatsError;
use super::consume::Reader;

impl Reader {
    /// Whether messages wait that the consumer could deliver.
    pub(super) async fn is_stalled(&self) -> bool {
        let in_hand = i64::try_from(self.source.in_hand()).unwrap_or(i64::MAX);
        if in_hand >= self.consumption.max_in_hand || !self.fence.holds() {
            return false;
        }
        let Ok(Some(stream)) = self.stream().await else { return false };
        match stream.consumer_info(self.consumption.unit.durable()).await {
            Ok(info) => {
                let full =
                    info.num_ack_pending as u64 >= info.config.max_ack_pending.unsigned_abs();
                info.num_pending > 0 && !full
            }
            // Whatever it is shows when the consumer is opened.
            Err(_) => false,
        }
    }

    /// Makes a consumer anew that delivers nothing, behind what it was told was handled; returns the
    /// sequence that comes next.
    pub(super) async fn rebuild(&self) -> Result<Option<u64>, NatsError> {
        self.fence.held().await;
        let Some(stream) = self.stream().await? else { return Ok(None) };
        let durable = self.consumption.unit.durable();
        let info = stream.consumer_info(&durable).await;
        let info = info.map_err(|why| NatsError::passing("the consumer cannot be read", &why))?;
        self.metrics.stalls.inc();
        tracing::warn!(
            handler = %self.consumption.unit,
            stream = self.consumption.stream,
            waiting = info.num_pending,
            "consumer {durable} has delivered nothing for {:?}, though messages wait",
            self.consumption.stalled
        );
        self.set_back(&stream, &durable, info.ack_floor.stream_sequence).await?;
        Ok(Some(1))
    }
}
