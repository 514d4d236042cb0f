//! What the executor asks of the session: functions and tables whose answer lies there.

use async_trait::async_trait;
use meridian_catalog::{CatalogSnapshot, ClusterTable, Relation, SessionInfo, SessionTable, VirtualTable};
use meridian_datum::{Datum, Result};
use meridian_keys::AdvisoryKey;
use meridian_plan::physical::AdvisoryCall;

use crate::cancel::CancelHandle;

/// Rows of a virtual table.
pub type Rows = Vec<Vec<Datum>>;

/// A session as its statements see it.
#[async_trait]
pub trait SessionView: SessionInfo + Send + Sync {
    /// A relation by name, as the session's search path finds it.
    fn resolve(&self, catalog: &CatalogSnapshot, schema: Option<&str>, name: &str) -> Option<Relation>;

    /// Does something with an advisory lock, or with all of the session where none is named: whether it did. What it waits
    /// for ends with the statement.
    async fn advisory(
        &self,
        call: AdvisoryCall,
        key: Option<AdvisoryKey>,
        cancel: &CancelHandle,
    ) -> Result<bool>;

    /// The rows of `pg_settings`.
    fn settings_rows(&self, table: &VirtualTable) -> Rows;

    /// The rows of the other tables that show the session.
    fn session_rows(&self, which: SessionTable, table: &VirtualTable) -> Rows;

    /// The rows of `meridian.sessions`.
    fn cluster_sessions(&self) -> Rows;

    /// The rows of the tables of the `meridian` schema that the SQL layer itself keeps.
    fn cluster_table(&self, which: ClusterTable) -> Rows;
}
