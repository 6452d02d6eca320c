//! A lane as a task of its own, and what becomes of the process when it can go on no more.

use tokio::sync::mpsc;

use super::{Ousted, Shared, lease};
use crate::lane::Lane;
use crate::relay::Relay;
use crate::store::Postgres;
use crate::stream::Acknowledge;

/// Ends the process where a lane panics. The other lanes would go on, but its keys would stand still; and a
/// message that is the cause is found out over the next starts, as after any crash.
struct Lifeline {
    lane: String,
    lost: mpsc::UnboundedSender<Ousted>,
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = format!(
                "{} panicked, which is a mistake in tribox (the lines before this one say where); \
                 nothing is lost: start it again, and please report it",
                self.lane
            );
            // An error means that the node has ended.
            let _ = self.lost.send(Ousted::Broken(why));
        }
    }
}

/// Runs a lane until its deliveries end, or another node has taken over.
pub async fn run_lane(lane: Lane<Postgres, Acknowledge, Relay>, shared: Shared) {
    let handler = lane.handler.load().handler.description().name.clone();
    let lane_name = format!("lane {} of handler {handler}", lane.index);
    let _lifeline = Lifeline { lane: lane_name, lost: shared.lost.clone() };
    if let Err(why) = lane.run().await {
        tracing::error!("{why}");
        lease::lost(&shared).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn a_lane_that_panics_ends_the_process_and_one_that_ends_does_not() {
        let (lost, mut heard) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for panics in [false, true] {
            let lifeline = Lifeline { lane: format!("lane {panics}"), lost: lost.clone() };
            tasks.spawn(async move {
                let _lifeline = lifeline;
                tokio::task::yield_now().await;
                assert!(!panics, "as a mistake would");
            });
        }
        while tasks.join_next().await.is_some() {}
        drop(lost);
        let Some(Ousted::Broken(why)) = heard.recv().await else { panic!("nothing was said") };
        assert!(why.starts_with("lane true panicked"), "{why}");
        assert!(heard.recv().await.is_none());
    }
}
