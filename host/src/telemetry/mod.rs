//! What the host tells of itself: metrics and health. Every room may use it; it uses none.

mod health;
mod metrics;

pub use health::{Health, Part};
pub use metrics::{HandlerMetrics, Metrics};
