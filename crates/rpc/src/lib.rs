//! What leaves a process: gRPC services and clients, the seam of transports, and the conversion between wire and
//! domain types.
//!
//! ```text
//!   node --PeerMessage--> Transport --------------------------------> PeerHandler
//!                          GrpcTransport: queue -> frames -> stream -> conversion
//!   server --NodeStatus, ...--> AdminHandler        clock driver --> TimeClient
//! ```
//! Nothing that tonic or prost generates leaves this crate: what goes in and out are the domain types of the crates
//! below, and plain data. The crate knows nothing of what messages mean; it neither retries a call nor matches an
//! answer to one.
//!
//! Invariants: messages between two nodes arrive in the order in which they were sent, at most once, or not at all;
//! what waits for a peer is bounded; a malformed message ends its stream with an error and never panics.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
mod admin_client;
mod client;
mod grpc;
mod latency;
pub mod peer;
mod queue;
pub mod security;
mod server;
mod time;
mod wire;

pub use admin_client::AdminClient;
pub use client::{Call, CallError, ShardClient};
pub use grpc::{GrpcConfig, GrpcTransport, PeerEndpoint};
pub use latency::LatencyTable;
pub use queue::{Epoch, SendQueue, Taken};
pub use security::{Credentials, Security};
pub use server::{NodeServices, ServeError, serve_node, serve_time_master};
pub use time::{PollError, TimeClient, TimeReading, TimeService};
pub use wire::WireError;
