//! What the tests that need a running server share: a client for sqllogictest, and real clusters as child processes.
//!
//! The crate drives the product from outside only: it starts the `meridian` binary and speaks the Postgres protocol.

#![allow(clippy::unwrap_used, reason = "a test harness stops at the first surprise")]

pub mod chaos;
mod client;
mod cluster;
pub mod isolation;
mod network;
mod score;
mod soak;

pub use client::{SltClient, SltError, run_file};
pub use cluster::{Cluster, ClusterKind, connect, eventually, meridian_binary, package_folder};
pub use network::Network;
pub use score::{Score, score_file};
pub use soak::soak;
