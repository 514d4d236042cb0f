//! Schema changes.
//!
//! A change of descriptors is a transaction on the catalog that takes effect at an announced timestamp (`activate`,
//! docs/decisions/0014): what is planned on the earlier version commits below it, what is planned on the new one above.
//! What needs rows to change takes several such steps:
//!
//! ```text
//!   CREATE INDEX     write-only ─ backfill in batches ─ public
//!   DROP INDEX       write-only ─ gone ─ entries removed in the background
//!   rewrite          locked ─ rows copied in batches ─ new storage ─ unlocked
//!   (ADD PRIMARY KEY, ALTER TYPE, ADD COLUMN with a default; checks of existing rows lock and do not copy)
//! ```
//! A locked table refuses writes with 40001, so that single statements wait for the change by trying again. The lock is a
//! mark among the table's storage parameters: it is on one version of the descriptor and goes with the next.
//!
//! Inside a transaction block a change is a part of the block's transaction, and later statements of the block are
//! planned on a catalog that has it. Changes that would have to wait for other transactions are possible there only on
//! tables that the block itself has made; otherwise they are 0A000.

mod activate;
mod alter;
mod create;
mod index;
mod rewrite;
mod rows;

use std::sync::Arc;

use meridian_catalog::{
    CatalogCache, CatalogChange, CatalogError, CatalogGuard, CatalogSnapshot, CatalogStore, DatabaseDesc,
    DatabaseId, SchemaDesc, SchemaId, TableDesc, TableId, TableRef,
};
use meridian_datum::{EvalContext, Result, SqlError, SqlState, TimeZone};
use meridian_kv_api::{Cluster, Kv, KvTxn, ReadBound, ReadOnlyOptions, ReadWriteOptions};
use meridian_plan::ddl::Ddl;
use meridian_plan::planned::CommandTag;
use meridian_plan::{PlannedStatement, StatementPlan};
use meridian_types::Timestamp;

use crate::cancel::CancelHandle;
use crate::context::{Environment, Statement};
use crate::kv_error::sql_error;
use crate::memory::MemoryAccount;
use crate::session_view::SessionView;

/// The mark of a table whose rows are being rewritten.
const LOCKED: &str = "meridian_rewriting";

/// Attempts of one step of a change. A step conflicts with other schema changes and with writers of the same rows.
const ATTEMPTS_MAX: u32 = 100;

/// What schema changes need of the node and the session.
#[derive(Clone)]
pub struct DdlServices {
    /// The store.
    pub kv: Arc<dyn Kv>,
    /// Ids, publication, splits.
    pub cluster: Arc<dyn Cluster>,
    /// This node's catalog.
    pub catalog: Arc<CatalogCache>,
    /// Cancellation of the statement.
    pub cancel: CancelHandle,
    /// Who owns what is made.
    pub owner: Arc<str>,
    /// Shards that a table begins with; 0 and 1 mean that it is not split.
    pub shards_per_table: usize,
    /// The session.
    pub session: Arc<dyn SessionView>,
    /// The session's time zone, for casts.
    pub time_zone: TimeZone,
    /// The statement's time, in microseconds of the PostgreSQL epoch.
    pub now: i64,
    /// Bytes that the statement may hold.
    pub memory_limit: usize,
}

/// What a transaction block has changed in the catalog so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockChange {
    /// The version that its commit makes.
    pub version: u64,
    /// Plans of others rely on what was changed, so that an activation has to be announced.
    pub concerns_plans: bool,
}

/// What a change did.
#[derive(Clone, Debug, Default)]
pub struct DdlOutcome {
    /// Rows of CREATE TABLE AS.
    pub rows: u64,
    /// For the client.
    pub notices: Vec<String>,
    /// Inside a transaction: what its commit has to do, and the catalog that later statements see.
    pub changed: Option<(BlockChange, Arc<CatalogSnapshot>)>,
    /// Inside a transaction: tables whose rows are to be removed after the commit.
    pub dropped: Vec<TableRef>,
}

pub(crate) fn catalog_error(e: CatalogError) -> SqlError {
    e.into_sql(sql_error)
}

/// Whether a table refuses writes at this version of its descriptor.
pub(crate) fn check_writable(table: &TableDesc) -> Result<()> {
    if table.storage_parameters.iter().any(|(n, _)| n == LOCKED) {
        return Err(SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            format!("relation \"{}\" is being rewritten by a schema change", table.name),
        )
        .with_hint("The statement might succeed if retried."));
    }
    Ok(())
}

/// The next version of a table.
fn next_version(table: &TableDesc) -> TableDesc {
    let mut next = table.clone();
    next.version += 1;
    next
}

impl DdlServices {
    /// Tells all nodes of a version of the catalog, or that one is announced; returns when each of them bounds its commits
    /// accordingly.
    async fn publish(&self, version: u64) -> Result<()> {
        let publish = async {
            self.cluster.publish_catalog(version).await.map_err(sql_error)?;
            self.catalog.publish(version).await.map_err(catalog_error)
        };
        self.cancel.guard(publish).await?
    }

    /// Commits a transaction block that has changed the catalog, and returns once the change is in force. The block's rows
    /// take effect with its commit, which lies a little before that. The block was planned on `guard` and has used the
    /// tables `used`; nobody else changes the catalog since its first change, whose lock it holds.
    pub async fn commit_block(
        &self,
        txn: &dyn KvTxn,
        change: BlockChange,
        guard: &CatalogGuard,
        used: &[TableId],
    ) -> Result<Option<Timestamp>> {
        let mut at = None;
        if change.concerns_plans {
            let mut ahead = activate::AHEAD_OF_BLOCK;
            at = Some(self.fence(&mut ahead).await?);
        }
        let permit = self.catalog.commit_permit(guard, used).await.map_err(sql_error)?;
        let permit = permit.ok_or_else(outdated_plan)?;
        txn.limit_commit_timestamp(permit.limit());
        if let Some(at) = at {
            self.stamp(txn, at).await.map_err(catalog_error)?;
        }
        let committed = self.cancel.commit(txn).await;
        if !crate::is_ambiguous(&committed) {
            permit.end();
        }
        let committed = committed?;
        match at {
            Some(at) => self.in_force(change.version, at).await?,
            None => self.publish(change.version).await?,
        }
        Ok(committed)
    }

    async fn allocate(&self) -> Result<u32> {
        CatalogStore::allocate_oid(&*self.cluster).await.map_err(catalog_error)
    }

    fn timestamp(&self) -> Result<Timestamp> {
        Ok(self.kv.now().map_err(sql_error)?.latest())
    }

    /// A statement for the expressions of a change, on a catalog and in a transaction.
    fn statement(
        &self,
        txn: Arc<dyn KvTxn>,
        catalog: Arc<CatalogSnapshot>,
        planned: &Arc<PlannedStatement>,
    ) -> Statement {
        let environment = Environment {
            txn,
            kv: self.kv.clone(),
            cluster: self.cluster.clone(),
            catalog,
            session: self.session.clone(),
            cancel: self.cancel.clone(),
            memory: MemoryAccount::new(self.memory_limit),
            eval: EvalContext::new(self.time_zone, self.now, rand_seed(self.now)),
            params: Vec::new(),
        };
        Statement::new(planned.clone(), environment)
    }

    /// A snapshot of the rows and the catalog as they are.
    async fn reading(&self, planned: &Arc<PlannedStatement>) -> Result<Statement> {
        let guard = self.catalog.acquire().await.map_err(sql_error)?;
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        let txn = Arc::from(self.kv.begin_read_only(options));
        Ok(self.statement(txn, guard.snapshot().clone(), planned))
    }

    /// Runs a change outside of transaction blocks.
    pub async fn run(&self, ddl: &Ddl, planned: &Arc<PlannedStatement>) -> Result<DdlOutcome> {
        let mut outcome = DdlOutcome::default();
        match ddl {
            Ddl::Nothing => {}
            Ddl::CreateTable(table) => {
                let desc = create::table(self, table).await?;
                self.change(vec![CatalogChange::CreateTable(Box::new(desc.clone()))]).await?;
                create::split(self, &desc).await?;
            }
            Ddl::CreateIndex { table, index, .. } => index::create(self, table, index, planned).await?,
            Ddl::DropIndex { indexes } => {
                for (table, id) in indexes {
                    index::remove(self, table, *id).await?;
                }
            }
            Ddl::AlterTable { table, actions } => alter::online(self, table, actions, planned).await?,
            Ddl::CreateTableAs { .. } | Ddl::Truncate { .. } => {
                return Err(SqlError::internal("statements with rows run in the session's transaction"));
            }
            _ => {
                let (changes, dropped) = self.simple_changes(ddl).await?;
                self.change(changes).await?;
                self.remove_rows_later(dropped);
            }
        }
        outcome.notices.clear();
        Ok(outcome)
    }

    /// Changes of descriptors alone.
    async fn simple_changes(&self, ddl: &Ddl) -> Result<(Vec<CatalogChange>, Vec<TableRef>)> {
        let mut dropped = Vec::new();
        let changes = match ddl {
            Ddl::CreateDatabase { name } => {
                let id = DatabaseId(self.allocate().await?);
                let public = SchemaId(self.allocate().await?);
                let owner = self.owner.to_string();
                vec![
                    CatalogChange::CreateDatabase(DatabaseDesc {
                        id,
                        name: name.clone(),
                        owner: owner.clone(),
                    }),
                    CatalogChange::CreateSchema(SchemaDesc {
                        id: public,
                        database: id,
                        name: "public".to_owned(),
                        owner,
                    }),
                ]
            }
            Ddl::DropDatabase { database } => {
                let guard = self.catalog.acquire().await.map_err(sql_error)?;
                let snapshot = guard.snapshot();
                let schemas: Vec<SchemaId> =
                    snapshot.schemas().filter(|s| s.database == *database).map(|s| s.id).collect();
                dropped = snapshot.tables().filter(|t| schemas.contains(&t.schema)).cloned().collect();
                let mut changes = self.drop_tables(&dropped)?;
                changes.extend(schemas.into_iter().map(CatalogChange::DropSchema));
                changes.push(CatalogChange::DropDatabase(*database));
                changes
            }
            Ddl::CreateSchema { database, name } => vec![CatalogChange::CreateSchema(SchemaDesc {
                id: SchemaId(self.allocate().await?),
                database: *database,
                name: name.clone(),
                owner: self.owner.to_string(),
            })],
            Ddl::DropSchema { schemas, tables } => {
                dropped = tables.clone();
                let mut changes = self.drop_tables(tables)?;
                changes.extend(schemas.iter().copied().map(CatalogChange::DropSchema));
                changes
            }
            Ddl::DropTable { tables } => {
                dropped = tables.clone();
                self.drop_tables(tables)?
            }
            Ddl::RenameIndex { table, index, name } => {
                let mut desc = next_version(table);
                if *index == desc.primary.id {
                    desc.primary.name = name.clone();
                } else if let Some(i) = desc.indexes.iter_mut().find(|i| i.id == *index) {
                    i.name = name.clone();
                }
                vec![CatalogChange::ReplaceTable(Box::new(desc))]
            }
            _ => return Err(SqlError::internal("this change is not one of descriptors alone")),
        };
        Ok((changes, dropped))
    }

    /// Descriptors of dropped tables: they give up their names and wait for their rows to go.
    fn drop_tables(&self, tables: &[TableRef]) -> Result<Vec<CatalogChange>> {
        let now = self.timestamp()?;
        let drop = |t: &TableRef| {
            let mut desc = next_version(t);
            desc.dropped_at = Some(now);
            CatalogChange::ReplaceTable(Box::new(desc))
        };
        Ok(tables.iter().map(drop).collect())
    }

    /// Runs a change as a part of an open transaction. `committed` is the catalog without the transaction's changes.
    pub async fn run_in_transaction(
        &self,
        ddl: &Ddl,
        statement: &Statement,
        committed: &CatalogSnapshot,
    ) -> Result<DdlOutcome> {
        let mut outcome = DdlOutcome::default();
        let txn = &*statement.txn;
        match ddl {
            Ddl::Nothing => return Ok(outcome),
            Ddl::Truncate { tables } => {
                for table in tables {
                    check_writable(table)?;
                    rows::truncate(statement, table).await?;
                }
                return Ok(outcome);
            }
            Ddl::CreateTable(table) => {
                let desc = create::table(self, table).await?;
                self.apply(txn, committed, vec![CatalogChange::CreateTable(Box::new(desc))], &mut outcome)
                    .await?;
            }
            Ddl::CreateTableAs { table, query, with_data } => {
                let desc = create::table(self, table).await?;
                self.apply(
                    txn,
                    committed,
                    vec![CatalogChange::CreateTable(Box::new(desc.clone()))],
                    &mut outcome,
                )
                .await?;
                if *with_data {
                    let snapshot = outcome.changed.as_ref().expect("the catalog was changed").1.clone();
                    outcome.rows = create::fill(statement, snapshot, desc.id, query).await?;
                }
            }
            Ddl::CreateIndex { table, index, .. } => {
                require_own(table, committed, "CREATE INDEX")?;
                let desc = index::add_public(self, table, index).await?;
                let id = desc.indexes.last().expect("an index was added").id;
                self.apply(
                    txn,
                    committed,
                    vec![CatalogChange::ReplaceTable(Box::new(desc.clone()))],
                    &mut outcome,
                )
                .await?;
                let snapshot = outcome.changed.as_ref().expect("the catalog was changed").1.clone();
                index::backfill_in_transaction(statement, &snapshot, &desc, id).await?;
            }
            Ddl::DropIndex { indexes } => {
                for (table, id) in indexes {
                    require_own(table, committed, "DROP INDEX")?;
                    let mut desc = next_version(table);
                    desc.indexes.retain(|i| i.id != *id);
                    self.apply(
                        txn,
                        committed,
                        vec![CatalogChange::ReplaceTable(Box::new(desc))],
                        &mut outcome,
                    )
                    .await?;
                }
            }
            Ddl::AlterTable { table, actions } => {
                let is_own = committed.table(table.id).is_none();
                let alteration = alter::plan(self, table, actions).await?;
                if !alteration.is_metadata_only() && !is_own {
                    return Err(needs_own("ALTER TABLE that reads or rewrites rows"));
                }
                let desc = alteration.table.clone();
                self.apply(txn, committed, vec![CatalogChange::ReplaceTable(Box::new(desc))], &mut outcome)
                    .await?;
                let snapshot = outcome.changed.as_ref().expect("the catalog was changed").1.clone();
                alter::rows_in_transaction(statement, snapshot, table, &alteration).await?;
            }
            _ => {
                let (changes, dropped) = self.simple_changes(ddl).await?;
                self.apply(txn, committed, changes, &mut outcome).await?;
                outcome.dropped = dropped;
            }
        }
        Ok(outcome)
    }

    /// Buffers changes of descriptors in a transaction and reads the catalog back as the transaction sees it.
    async fn apply(
        &self,
        txn: &dyn KvTxn,
        committed: &CatalogSnapshot,
        changes: Vec<CatalogChange>,
        outcome: &mut DdlOutcome,
    ) -> Result<()> {
        let concerns_plans = changes.iter().any(|c| activate::concerns_plans(c, committed));
        let version = CatalogStore::apply(txn, changes).await.map_err(catalog_error)?;
        let snapshot = CatalogStore::load(txn).await.map_err(catalog_error)?;
        outcome.changed = Some((BlockChange { version, concerns_plans }, Arc::new(snapshot)));
        Ok(())
    }

    /// Removes the rows and the descriptors of dropped tables in the background.
    pub fn remove_rows_later(&self, tables: Vec<TableRef>) {
        if tables.is_empty() {
            return;
        }
        let services = self.clone();
        tokio::spawn(async move {
            for table in tables {
                if let Err(error) = services.remove_table(&table).await {
                    tracing::warn!(%error, table = %table.name, "rows of a dropped table could not be removed");
                }
            }
        });
    }

    async fn remove_table(&self, table: &TableRef) -> Result<()> {
        // Rows of an interleaved table lie in its parent's range and are removed one by one.
        if table.interleave.is_none() {
            rows::remove_span(&*self.kv, rows::table_span(table.storage)).await?;
        } else {
            rows::remove_interleaved(self, table).await?;
        }
        let txn = self.kv.begin(ReadWriteOptions::default());
        let version = CatalogStore::apply(&*txn, [CatalogChange::RemoveTable(table.id)])
            .await
            .map_err(catalog_error)?;
        txn.commit().await.map_err(sql_error)?;
        self.cluster.publish_catalog(version).await.map_err(sql_error)?;
        self.catalog.publish(version).await.map_err(catalog_error)
    }

    /// Removes the rows of a storage that no table uses any more, in the background.
    fn remove_storage_later(&self, storage: TableId) {
        let kv = self.kv.clone();
        tokio::spawn(async move {
            if let Err(error) = rows::remove_span(&*kv, rows::table_span(storage)).await {
                tracing::warn!(%error, %storage, "rows of a replaced storage could not be removed");
            }
        });
    }
}

/// A transaction was planned on a version of the catalog that is over.
#[cold]
pub fn outdated_plan() -> SqlError {
    SqlError::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to a concurrent schema change",
    )
    .with_hint("The transaction might succeed if retried.")
}

/// Seeds `random()` of a change's expressions.
fn rand_seed(now: i64) -> u64 {
    now as u64
}

fn needs_own(what: &str) -> SqlError {
    SqlError::unsupported(format_args!(
        "{what} inside a transaction block, on a table that the block has not made,"
    ))
    .with_hint("Run the statement outside of a transaction block.")
}

/// Only tables that the transaction has made can be changed in it with their rows.
fn require_own(table: &TableRef, committed: &CatalogSnapshot, what: &str) -> Result<()> {
    if committed.table(table.id).is_some() { Err(needs_own(what)) } else { Ok(()) }
}

/// A statement of nothing, for reads that no statement asks for.
fn placeholder() -> PlannedStatement {
    PlannedStatement {
        plan: StatementPlan::Ddl(Box::new(Ddl::Nothing)),
        param_types: Vec::new(),
        columns: None,
        tag: CommandTag::Plain(""),
        ctes: Vec::new(),
        tables: Vec::new(),
        is_read_only: true,
        single_operation: false,
        cacheable: false,
        as_of: None,
        notices: Vec::new(),
    }
}
