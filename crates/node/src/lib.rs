//! Drivers around the cores: event loops, group commit, timers, transport.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod local;

pub use local::{LocalNetwork, LocalTransport};
