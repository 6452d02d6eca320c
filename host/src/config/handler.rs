//! What is set for one handler.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::LimitsConfig;

/// What is set for one handler.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handler {
    /// Whether it runs at all.
    pub enabled: bool,
    /// Into how many partitions its messages are split, by key; each is worked on by one node.
    pub partitions: Option<u32>,
    pub lanes: Option<usize>,
    pub turn: Option<usize>,
    pub retry: Retry,
    /// What becomes of a message that traps.
    pub on_trap: OnTrap,
    /// Whether later messages of a key wait behind one that is dead, until somebody acts.
    pub hold: bool,
    /// Whether messages that died by a fault of a build are tried again with another build.
    pub heal: bool,
    /// In place of `[backlog]`.
    pub backlog: Option<Backlog>,
    /// What the handler reads by `wasi:config`.
    pub settings: BTreeMap<String, String>,
    /// In place of `[limits]`.
    pub limits: Option<LimitsConfig>,
}

impl Default for Handler {
    fn default() -> Self {
        Handler {
            enabled: true,
            partitions: None,
            lanes: None,
            turn: None,
            retry: Retry::default(),
            on_trap: OnTrap::default(),
            hold: false,
            heal: true,
            backlog: None,
            settings: BTreeMap::new(),
            limits: None,
        }
    }
}

/// What becomes of a message whose handling traps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTrap {
    /// It is dead until another build is dropped in; past the wall-clock deadline it is tried thrice.
    #[default]
    Dead,
    /// It is tried again as if the handler had said `retry`.
    Retry,
}

/// How messages are tried again whose handler says `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first one included.
    pub attempts: u32,
    /// The pause after the first one; it doubles each time.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(with = "humantime_serde")]
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let policy = crate::lane::Policy::default();
        Retry { attempts: 20, backoff: policy.backoff, cap: policy.cap }
    }
}

/// How much of one handler may pile up before consuming pauses for it, and for it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backlog {
    /// Messages committed and not yet published.
    pub outbox: u64,
    /// Messages parked that are not dead: retrying, waiting, or holding their key.
    pub parked: u64,
    /// Delayed messages that are not due.
    pub scheduled: u64,
}

impl Default for Backlog {
    fn default() -> Self {
        Backlog { outbox: 100_000, parked: 100_000, scheduled: 10_000_000 }
    }
}
