//! LOCK TABLE.

use meridian_catalog::TableDesc;
use meridian_datum::Result;
use meridian_kv_api::{Locking, ScanRequest};
use meridian_types::{Span, limits};

use crate::context::Statement;
use crate::table::Prefix;

/// Locks all rows of a table and every place between them: the store locks what a scan has passed over.
pub async fn lock_table(statement: &Statement, table: &TableDesc, locking: Locking) -> Result<()> {
    let prefix = Prefix::of(&statement.catalog, table, &table.primary)?;
    let mut rest = Some(Span::prefix(&prefix.start().finish()));
    while let Some(span) = rest {
        statement.checkpoint().await?;
        let request = ScanRequest { span, reverse: false, limit: limits::SCAN_PAGE_ROWS, locking };
        rest = statement.wait(statement.txn.scan(request)).await?.resume;
    }
    Ok(())
}
