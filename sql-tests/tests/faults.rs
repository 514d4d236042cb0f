//! Real processes under kill -9, and bad input: nothing acknowledged is lost, nothing else is harmed.

#![allow(clippy::unwrap_used)]

#[path = "faults/advisory.rs"]
mod advisory;
#[path = "faults/bank.rs"]
mod bank;
#[path = "faults/disks.rs"]
mod disks;
#[path = "faults/input.rs"]
mod input;
#[path = "faults/members.rs"]
mod members;
#[path = "faults/operators.rs"]
mod operators;
#[path = "faults/schema.rs"]
mod schema;
#[path = "faults/time.rs"]
mod time;
#[path = "faults/workloads.rs"]
mod workloads;
