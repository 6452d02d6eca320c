//! What one message may use.

use std::time::Duration;

use serde::Deserialize;

use crate::model::Limits;

/// See [`Limits`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    pub fuel: u64,
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    pub memory: usize,
    pub effects: usize,
    pub effects_size: usize,
    pub document_size: usize,
    pub payload_size: usize,
    pub hops: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits {
            fuel,
            deadline,
            memory,
            effects,
            effects_size,
            document_size,
            payload_size,
            hops,
        } = Limits::default();
        LimitsConfig {
            fuel,
            deadline,
            memory,
            effects,
            effects_size,
            document_size,
            payload_size,
            hops,
        }
    }
}

impl From<LimitsConfig> for Limits {
    fn from(config: LimitsConfig) -> Limits {
        let LimitsConfig {
            fuel,
            deadline,
            memory,
            effects,
            effects_size,
            document_size,
            payload_size,
            hops,
        } = config;
        Limits { fuel, deadline, memory, effects, effects_size, document_size, payload_size, hops }
    }
}
