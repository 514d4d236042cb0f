//! What the executor asks of the session: functions and tables whose answer lies there.

use meridian_catalog::{CatalogSnapshot, ClusterTable, Relation, SessionInfo, SessionTable, VirtualTable};
use meridian_datum::Datum;

/// Rows of a virtual table.
pub type Rows = Vec<Vec<Datum>>;

/// A session as its statements see it.
pub trait SessionView: SessionInfo + Send + Sync {
    /// A relation by name, as the session's search path finds it.
    fn resolve(&self, catalog: &CatalogSnapshot, schema: Option<&str>, name: &str) -> Option<Relation>;

    /// The rows of `pg_settings`.
    fn settings_rows(&self, table: &VirtualTable) -> Rows;

    /// The rows of the other tables that show the session.
    fn session_rows(&self, which: SessionTable, table: &VirtualTable) -> Rows;

    /// The rows of `meridian.sessions`.
    fn cluster_sessions(&self) -> Rows;

    /// The rows of the tables of the `meridian` schema that the SQL layer itself keeps.
    fn cluster_table(&self, which: ClusterTable) -> Rows;
}
