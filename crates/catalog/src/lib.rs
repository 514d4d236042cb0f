//! Descriptors of databases, schemas, tables and indexes, and their storage.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod descriptor;
mod functions;
mod ids;
mod snapshot;
mod virtual_table;

pub use descriptor::{
    CheckDesc, ColumnDesc, DatabaseDesc, Direction, Identity, IndexColumn, IndexDesc, IndexState, Interleave,
    SchemaDesc, TableDesc, TableRef,
};
pub use functions::CatalogFunction;
pub use ids::{ColumnId, DatabaseId, FIRST_USER_OID, IndexId, SchemaId, TableId};
pub use snapshot::CatalogSnapshot;
pub use virtual_table::{ClusterTable, SessionTable, VirtualColumn, VirtualSource, VirtualTable};
