//! gRPC services and clients; conversion between wire and domain types.

mod client;

pub use client::{Call, CallError, ShardClient};
