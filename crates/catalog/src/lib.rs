//! Descriptors of databases, schemas, tables and indexes; their storage; and the system tables and functions that show
//! them to clients.
//!
//! ```text
//!   descriptor   what a table is              store   descriptors in the system keyspace
//!   snapshot     the catalog at one timestamp cache   the snapshot a node plans on, under a schema lease
//!   virtual_table, pg_catalog, information_schema     tables without storage
//!   job          what schema changes have still to do
//!   functions    pg_get_indexdef(), current_schema(), regclass and their kin
//! ```
//! Everything but `store`, `job` and `cache` is a pure function of a snapshot and of what the session says of itself.
//! The crate does not know of plans, of rows, or of who runs a schema change.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod advisory;
mod cache;
mod descriptor;
#[cfg(test)]
mod fixture;
mod functions;
mod ids;
mod information_schema;
mod job;
mod memo;
mod objects;
mod pg_catalog;
mod procs;
mod snapshot;
mod store;
mod virtual_table;

pub use cache::{CatalogCache, CatalogGuard, CommitPermit, Licence, Look, SchemaLease};
pub use descriptor::{
    CheckDesc, ColumnDesc, DatabaseDesc, Direction, ExpressionDesc, Identity, IndexColumn, IndexDesc,
    IndexState, Interleave, SchemaDesc, TableDesc, TableRef,
};
pub use functions::{
    CatalogFunction, SessionInfo, evaluate, lookup_catalog_function, parse_reg, quote_ident, reg_input,
    reg_output, reg_text,
};
pub use ids::{ColumnId, DatabaseId, FIRST_USER_OID, IndexId, SchemaId, TableId};
pub use job::{Job, JobError, JobPhase, JobSession, JobState, JobWish, JobWork, Transition};
pub use memo::Memo;
pub use pg_catalog::{Rows, virtual_rows};
pub use snapshot::{CatalogSnapshot, Relation, TableStatistics, VIRTUAL_SCHEMAS};
pub use store::{
    CatalogChange, CatalogError, CatalogState, CatalogStore, CatalogVersion, DEFAULT_DATABASE, ObjectKind,
    POSTGRES_DATABASE,
};
pub use virtual_table::{
    ClusterTable, SessionTable, VirtualColumn, VirtualSource, VirtualTable, virtual_table, virtual_tables,
};
