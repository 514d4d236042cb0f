//! Schema changes.
//!
//! A change of descriptors is a transaction on the catalog that takes effect at an announced timestamp (`activate`,
//! docs/decisions/0014): what is planned on the earlier version commits below it, what is planned on the new one above.
//! What needs rows to change takes several such steps:
//!
//! ```text
//!   CREATE INDEX     write-only ─ backfill beneath the writers ─ (unique: validation) ─ public
//!   DROP INDEX       gone ─ entries removed by a job
//!   SET NOT NULL, CHECK   enforced ─ rows looked at beneath the writers ─ relied on
//!   rewrite          locked ─ rows copied in batches ─ new storage, unlocked
//!   (ADD PRIMARY KEY, ALTER TYPE, ADD COLUMN with a volatile default)
//! ```
//! The steps after the first belong to a job (`jobs`), which outlives its node. A locked table refuses writes with 40001, so that single statements wait for the change by trying again. The lock is a
//! mark among the table's storage parameters: it is on one version of the descriptor and goes with the next.
//!
//! Inside a transaction block a change is a part of the block's transaction, and later statements of the block are
//! planned on a catalog that has it. There it reads the table's rows under shared locks, which the block holds until just
//! below the activation (docs/decisions/0022): whoever writes a row needs its primary key exclusively, so that no row
//! is written on the old schema any more once a change has looked at the table.

mod activate;
mod alter;
mod analyze;
mod backfill;
mod clean;
mod constrain;
mod create;
mod index;
mod jobs;
mod pace;
mod rewrite;
mod rows;

pub use jobs::{Directive, Running, is_outage};
pub use pace::Pace;

use std::sync::Arc;

use meridian_catalog::{
    CatalogCache, CatalogChange, CatalogError, CatalogGuard, CatalogSnapshot, CatalogStore, DatabaseDesc,
    DatabaseId, Job, JobSession, SchemaDesc, SchemaId, TableDesc, TableId, TableRef,
};
use meridian_datum::{DateStyle, EvalContext, Result, SqlError, SqlState, TimeZone};
use meridian_kv_api::{Cluster, Kv, KvTxn, ReadBound, ReadOnlyOptions};
use meridian_plan::ddl::{Ddl, NewIndex};
use meridian_plan::planned::CommandTag;
use meridian_plan::{PlannedStatement, StatementPlan};
use meridian_types::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

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
    /// The session's way of reading dates, for the same.
    pub date_style: DateStyle,
    /// The statement's time, in microseconds of the PostgreSQL epoch.
    pub now: i64,
    /// Bytes that the statement may hold.
    pub memory_limit: usize,
    /// How fast jobs go.
    pub pace: Pace,
    /// The statement, as jobs show it.
    pub statement_text: Arc<str>,
    /// Where and as whom a job's statement is planned.
    pub job_session: JobSession,
    /// What the client is told while it waits.
    pub notices: Option<UnboundedSender<String>>,
    /// The job whose statement this is, until its first change is in force.
    pub statement_job: Option<Arc<Mutex<Option<Job>>>>,
    /// When the first change shall take effect, where that is still to come.
    pub activate_at: Option<Timestamp>,
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

    /// Commits a transaction block that has changed the catalog, and returns once the change is in force. The block was
    /// planned on `guard` and has used the tables `used`; nobody else changes the catalog since its first change, whose
    /// lock it holds.
    ///
    /// Where plans of others rely on what was changed, the block commits just below the activation and holds its locks
    /// until then (docs/decisions/0022): a writer on the old version that met the locks finds no timestamp left, so that
    /// nobody undoes what the block did to rows, or has done since it looked at them.
    pub async fn commit_block(
        &self,
        txn: &dyn KvTxn,
        change: BlockChange,
        guard: &CatalogGuard,
        used: &[TableId],
    ) -> Result<Option<Timestamp>> {
        let at =
            if change.concerns_plans { Some(self.fence_block(txn.written_bytes()).await?) } else { None };
        if let Some(at) = at {
            self.stamp(txn, at).await.map_err(catalog_error)?;
        }
        // What takes long comes before the permit, which lasts no longer than the schema lease.
        self.cancel.guard(txn.send_ahead()).await?.map_err(sql_error)?;
        if let Some(at) = at {
            self.cancel.guard(self.wait_until(at.saturating_sub(self.block_needs()))).await??;
        }
        let permit = self.catalog.commit_permit(guard, used).await.map_err(sql_error)?;
        let permit = permit.ok_or_else(outdated_plan)?;
        txn.limit_commit_timestamp(permit.limit());
        if let Some(at) = at {
            txn.raise_commit_timestamp(at.prev());
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
        let mut eval = EvalContext::new(self.time_zone, self.now, rand_seed(self.now));
        eval.date_style = self.date_style;
        let environment = Environment {
            txn,
            kv: self.kv.clone(),
            cluster: self.cluster.clone(),
            catalog,
            session: self.session.clone(),
            cancel: self.cancel.clone(),
            memory: MemoryAccount::new(self.memory_limit),
            eval,
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
        self.wait_turn(&self.tables_of(ddl).await?).await?;
        match ddl {
            Ddl::Nothing => {}
            Ddl::CreateTable(table) => {
                let desc = create::table(self, table).await?;
                self.change(vec![CatalogChange::CreateTable(Box::new(desc.clone()))]).await?;
                create::split(self, &desc).await?;
            }
            Ddl::CreateIndex { table, index, more, .. } => {
                let indexes: Vec<&NewIndex> = std::iter::once(index).chain(more).collect();
                index::create(self, table, &indexes).await?;
            }
            Ddl::DropIndex { indexes } => {
                let changes = index::remove(self, indexes).await?;
                self.change(changes).await?;
            }
            Ddl::AlterTable { table, actions } => {
                alter::online(self, table, actions, planned).await?;
            }
            Ddl::CreateTableAs { .. } | Ddl::Truncate { .. } => {
                return Err(SqlError::internal("statements with rows run in the session's transaction"));
            }
            _ => {
                let changes = self.simple_changes(ddl).await?;
                self.change(changes).await?;
            }
        }
        outcome.notices.clear();
        Ok(outcome)
    }

    /// The tables that a change must have for itself.
    async fn tables_of(&self, ddl: &Ddl) -> Result<Vec<TableId>> {
        Ok(match ddl {
            Ddl::CreateIndex { table, .. }
            | Ddl::RenameIndex { table, .. }
            | Ddl::AlterTable { table, .. } => vec![table.id],
            Ddl::DropIndex { indexes } => indexes.iter().map(|(table, _)| table.id).collect(),
            Ddl::DropTable { tables } | Ddl::DropSchema { tables, .. } => {
                tables.iter().map(|table| table.id).collect()
            }
            Ddl::DropDatabase { database } => {
                let guard = self.catalog.acquire().await.map_err(sql_error)?;
                let snapshot = guard.snapshot();
                let is_in = |t: &&TableRef| {
                    snapshot.schema_by_id(t.schema).is_some_and(|schema| schema.database == *database)
                };
                snapshot.tables().filter(is_in).map(|table| table.id).collect()
            }
            Ddl::Nothing
            | Ddl::CreateDatabase { .. }
            | Ddl::CreateSchema { .. }
            | Ddl::CreateTable(_)
            | Ddl::CreateTableAs { .. }
            | Ddl::Truncate { .. } => Vec::new(),
        })
    }

    /// Changes of descriptors alone.
    async fn simple_changes(&self, ddl: &Ddl) -> Result<Vec<CatalogChange>> {
        Ok(match ddl {
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
                let dropped: Vec<TableRef> =
                    snapshot.tables().filter(|t| schemas.contains(&t.schema)).cloned().collect();
                let mut changes = self.drop_tables(&dropped).await?;
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
                let mut changes = self.drop_tables(tables).await?;
                changes.extend(schemas.iter().copied().map(CatalogChange::DropSchema));
                changes
            }
            Ddl::DropTable { tables } => self.drop_tables(tables).await?,
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
        })
    }

    /// Descriptors of dropped tables, which give up their names, and the removal of their rows. Until old versions are
    /// collected, the tables can be read as of a time before.
    async fn drop_tables(&self, tables: &[TableRef]) -> Result<Vec<CatalogChange>> {
        let now = self.timestamp()?;
        let mut changes = Vec::with_capacity(tables.len() * 2);
        for table in tables {
            let mut desc = next_version(table);
            desc.dropped_at = Some(now);
            changes.push(CatalogChange::ReplaceTable(Box::new(desc)));
            changes.push(self.clean_table_later(table, None).await?);
        }
        Ok(changes)
    }

    /// Runs a change as a part of an open transaction. `committed` is the catalog without the transaction's changes.
    pub async fn run_in_transaction(
        &self,
        ddl: &Ddl,
        statement: &Statement,
        committed: &CatalogSnapshot,
    ) -> Result<DdlOutcome> {
        let mut outcome = DdlOutcome::default();
        self.check_turn(&self.tables_of(ddl).await?).await?;
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
            Ddl::CreateIndex { table, index, more, .. } => {
                check_writable(table)?;
                let indexes: Vec<&NewIndex> = std::iter::once(index).chain(more).collect();
                let (desc, ids) = index::add_public(self, table, &indexes).await?;
                self.apply(
                    txn,
                    committed,
                    vec![CatalogChange::ReplaceTable(Box::new(desc.clone()))],
                    &mut outcome,
                )
                .await?;
                let snapshot = outcome.changed.as_ref().expect("the catalog was changed").1.clone();
                let filled = index::backfill_in_transaction(statement, &snapshot, &desc, &ids).await;
                filled.map_err(hint_at_limit)?;
            }
            Ddl::DropIndex { indexes } => {
                let changes = index::remove(self, indexes).await?;
                self.apply(txn, committed, changes, &mut outcome).await?;
            }
            Ddl::AlterTable { table, actions } => {
                check_writable(table)?;
                let alteration = alter::plan(self, statement, table, actions).await?;
                let changes = alteration.changes(self, table).await?;
                self.apply(txn, committed, changes, &mut outcome).await?;
                let snapshot = outcome.changed.as_ref().expect("the catalog was changed").1.clone();
                let rows = alter::rows_in_transaction(statement, snapshot, table, &alteration).await;
                rows.map_err(hint_at_limit)?;
            }
            _ => {
                let changes = self.simple_changes(ddl).await?;
                self.apply(txn, committed, changes, &mut outcome).await?;
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

/// What a transaction writes has a limit, which the jobs of changes outside of blocks do not know.
fn hint_at_limit(e: SqlError) -> SqlError {
    if e.state == SqlState::PROGRAM_LIMIT_EXCEEDED {
        e.with_hint(
            "Run the schema change outside of a transaction block, where it writes in many transactions.",
        )
    } else {
        e
    }
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
