//! ANALYZE: how many rows tables have, for the planner and for whoever asks `pg_class`.
//!
//! Every row is counted, each table at one timestamp, without locks and at the pace of schema changes. What is found is a
//! version of the catalog; no plan is wrong for being older, so that nothing is announced and nobody waits.

use std::sync::Arc;

use meridian_catalog::{CatalogChange, TableId, TableRef, TableStatistics};
use meridian_datum::{Result, SqlError};

use super::{DdlServices, backfill, placeholder};
use crate::kv_error::sql_error;

impl DdlServices {
    /// Counts the rows of tables: of all in `database` where none is named. A table that is dropped meanwhile is left out.
    ///
    /// # Errors
    /// A named table is not committed yet, or cannot be read; then nothing is noted.
    pub async fn analyze(&self, database: &str, named: &[TableRef]) -> Result<()> {
        let mut found = Vec::new();
        for id in self.tables_to_count(database, named).await? {
            found.extend(self.counted(id).await?);
        }
        if !found.is_empty() {
            self.change(found).await?;
        }
        Ok(())
    }

    async fn tables_to_count(&self, database: &str, named: &[TableRef]) -> Result<Vec<TableId>> {
        let guard = self.catalog.acquire().await.map_err(sql_error)?;
        let snapshot = guard.snapshot();
        if let Some(new) = named.iter().find(|t| snapshot.table(t.id).is_none()) {
            let what = format!("ANALYZE of table \"{}\", which this transaction has made", new.name);
            return Err(SqlError::unsupported(what));
        }
        if !named.is_empty() {
            return Ok(named.iter().map(|t| t.id).collect());
        }
        let database = snapshot.database(database).map(|d| d.id);
        let is_here = |t: &&TableRef| snapshot.schema_by_id(t.schema).map(|s| s.database) == database;
        Ok(snapshot.tables().filter(is_here).map(|t| t.id).collect())
    }

    /// What is new about a table.
    async fn counted(&self, id: TableId) -> Result<Option<CatalogChange>> {
        let statement = self.reading(&Arc::new(placeholder())).await?;
        let Some(table) = statement.catalog.table(id) else { return Ok(None) };
        let spans = backfill::spans(self, &statement.catalog, table).await?;
        let rows = backfill::count_rows(self, &statement, &spans).await? as f64;
        let is_known = statement.catalog.statistics(id).is_some_and(|known| known.rows == rows);
        Ok((!is_known).then_some(CatalogChange::SetStatistics(id, TableStatistics { rows })))
    }
}
