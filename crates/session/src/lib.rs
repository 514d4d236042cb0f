//! Sessions: what stands between a client's connection and the executor.
//!
//! A session keeps what belongs to one client: the transaction block, prepared statements and portals, settings, cached
//! plans. It parses, plans, executes and commits, runs conflicting statements again, and tells the edge what to send.
//! It does not know the wire's bytes (the edge encodes them) nor shards and replicas (the store has them).
//!
//! ```text
//!   edge ── simple_query / parse, bind, execute, sync / copy ──> Session
//!                                                                  |  plan cache, settings, block
//!                                   plan <─────────────────────────+
//!                                   exec <── Statement, ResultSink <── batches
//!                                   KvTxn <── begin, commit, savepoints
//! ```
//!
//! # A statement's life
//! 1. [`Session::simple_query`] or [`Session::execute`] finds or makes its plan ([`cache`](crate), by text, parameter
//!    types, settings and catalog version; point statements also by their text without its literals, `simple`).
//! 2. Outside a block an implicit transaction begins; it leases the catalog (`catalog_access`) and, with the first
//!    statement that reads or writes, the store's transaction (`transaction`).
//! 3. `execute` runs the plan: point statements directly, operator trees batch by batch, control statements here.
//! 4. At the end of the query string, or at Sync, the implicit transaction commits. Where the store asks for a retry, a
//!    statement of its own is run again if nothing of its result has left the buffer; a block, several statements of one
//!    message, and COPY FROM STDIN are run again from a journal, and their answers compared (`replay`). All keep the
//!    first attempt's age.
//!
//! # Invariants
//! - Every statement runs inside a transaction of the session, implicit or explicit; there is none between requests
//!   when the status is `I`.
//! - A transaction commits, and a snapshot is read, within the span of time for which its catalog version stands, as far
//!   as the tables that it used are concerned (docs/decisions/0014).
//! - After an error the block is failed or gone before the edge hears of the error.
//! - Settings changed in a transaction that does not commit are as before.
//!
//! The wire edge's view, with the order of calls, is in [`api`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod advisory;
pub mod api;
mod block;
mod cache;
mod catalog_access;
mod cluster_settings;
mod control;
mod copied;
mod copy;
mod cursor;
mod ddl;
mod digest;
mod execute;
mod extended;
mod factory;
mod jobs;
mod journal;
mod pipeline;
mod portals;
mod replay;
mod roles;
mod session;
mod settings;
mod several;
mod simple;
mod statistics;
mod system_rows;
mod transaction;
mod view;

pub use api::{
    BindParams, CommandTag, CopyHeader, Field, Flow, Format, ResultSink, RowDescription, SessionParams,
    Severity, SinkClosed, StatementDescription, TransactionStatus,
};
pub use cluster_settings::ClusterSettings;
pub use factory::{ServerSettings, SessionFactory, SessionInfo};
pub use meridian_exec::CancelHandle;
pub use roles::{Role, Roles};
pub use session::Session;
pub use settings::SERVER_VERSION;

#[cfg(test)]
mod tests;
