//! Whole nodes in one process, over the in-memory engine and the transport between threads.

mod backlog;
mod cluster;
mod commits;
mod faults;
mod log;
mod membership;
mod resting;
mod streams;
mod troubled;
