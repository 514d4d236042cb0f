//! Traces of what the gateway says to the shards, and properties of what it answers.

mod admin;
mod commit;
mod fake;
mod overlay;
mod patience;
mod replicas;
mod routing;
mod snapshot;
