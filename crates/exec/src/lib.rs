//! The vectorised executor: from physical plans to rows and writes.
//!
//! It is given a planned statement, its parameters and a transaction, and answers batches of rows. It knows tables,
//! indexes and expressions; it does not know sessions, transaction blocks, retries or the wire. It reads and writes
//! through `KvTxn` alone, so that it runs on the distributed store and on the one in memory alike.
//!
//! ```text
//!   session ── Statement { plan, params, txn, catalog, ... }
//!                 |
//!             Execution ── operators ── expressions
//!                 |            |             |
//!              batches      table codec   subqueries (operators again)
//!                              |
//!                            KvTxn
//! ```
//!
//! # Where things are
//! - [`Execution`]: an execution as a resumable future; [`CompiledPoint`]: statements on one row by primary key, without
//!   operators;
//! - `ops`: the operators; `eval`: expressions; `dml`: writes, constraints, RETURNING; `table`: rows as keys and values;
//! - `check`: whether tables and indexes agree; `ddl`: schema changes and backfills; `copy`: COPY in and out;
//! - [`sql_error`]: the one table from errors of the store to SQLSTATEs; [`CancelHandle`], [`MemoryAccount`].
//!
//! # Invariants
//! - A batch is never empty, and columns have the types that the plan states.
//! - A statement sees the database as it was before the statement: writes never feed its own reads.
//! - Every loop over rows passes a cancellation check at least once per batch.
//! - Memory that grows with the input is reserved from the statement's account.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cancel;
mod check;
mod context;
pub mod copy;
pub mod ddl;
mod dml;
mod eval;
mod kv_error;
mod locking;
mod memory;
mod ops;
mod point;
mod run;
mod session_view;
mod table;

pub use cancel::CancelHandle;
pub use context::{Ctx, Environment, Statement};
pub use kv_error::{is_ambiguous, is_retry, sql_error};
pub use locking::lock_table;
pub use memory::{MemoryAccount, Reservation};
pub use point::CompiledPoint;
pub use run::Execution;
pub use session_view::{Rows, SessionView};
