//! Schema changes as statements of the session.

use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_catalog::JobSession;
use meridian_datum::{Batch, DataType, Datum, EvalContext, SqlError, SqlState};
use meridian_exec::ddl::{BlockChange, DdlOutcome, DdlServices};
use meridian_plan::ddl::Ddl;
use meridian_plan::planned::{CommandTag as Tag, OutputColumn};
use meridian_plan::{ParsedStatement, PlannedStatement, StatementPlan};

use crate::api::{CommandTag, ResultSink, RowDescription, Severity};
use crate::cache::{CachedPlan, Defer};
use crate::control::not_in_block;
use crate::session::Session;
use crate::transaction::read_only_violation;

impl Session {
    /// What schema changes need of the node.
    pub(crate) fn ddl_services(&self) -> DdlServices {
        let effective = self.settings.lock().effective().clone();
        DdlServices {
            kv: self.shared.kv.clone(),
            cluster: self.shared.cluster.clone(),
            catalog: self.shared.catalog.clone(),
            cancel: self.cancel.clone(),
            owner: self.user.clone(),
            shards_per_table: effective.shards_per_table,
            session: self.view.clone(),
            time_zone: effective.time_zone,
            date_style: effective.date_style,
            now: self.now(),
            memory_limit: effective.memory_limit,
            pace: self.shared.server.cluster.pace(),
            statement_text: "".into(),
            job_session: JobSession {
                user: self.user.to_string(),
                database: self.database.to_string(),
                search_path: self.show_setting("search_path"),
                time_zone: self.show_setting("timezone"),
                date_style: self.show_setting("datestyle"),
            },
            notices: None,
            statement_job: self.statement_job.clone(),
            activate_at: self.activate_at,
        }
    }

    /// Whether a statement becomes a job; its result is then the job's number.
    pub(crate) fn defer(
        &self,
        parsed: &ParsedStatement,
        planned: &mut PlannedStatement,
        eval: &EvalContext,
    ) -> Result<Option<Defer>, SqlError> {
        let scheduled = parsed.scheduled(eval)?;
        let mode = self.settings.lock().effective().defers_schema_changes;
        let defer = match (scheduled, &planned.plan) {
            (Some((at, statement)), StatementPlan::Ddl(ddl)) => match **ddl {
                Ddl::CreateTableAs { .. } | Ddl::Truncate { .. } => {
                    return Err(SqlError::unsupported("AT TIMESTAMP with a statement that changes rows"));
                }
                _ => Some(Defer { statement, at: Some(at) }),
            },
            (Some(_), _) => return Err(SqlError::unsupported("AT TIMESTAMP with this statement")),
            (None, StatementPlan::Ddl(ddl)) if mode => {
                let is_long =
                    matches!(**ddl, Ddl::AlterTable { .. } | Ddl::CreateIndex { .. } | Ddl::DropIndex { .. });
                let is_in_block = self.transaction.as_ref().is_some_and(|t| t.is_explicit);
                (is_long && !is_in_block).then(|| Defer { statement: parsed.text.clone(), at: None })
            }
            (None, _) => None,
        };
        if defer.is_some() {
            let id = OutputColumn { name: "job_id".to_owned(), ty: DataType::Int8, origin: (0, 0) };
            planned.columns = Some([id].into());
        }
        Ok(defer)
    }

    /// Makes a job of a schema change, and tells the client its number.
    pub(crate) async fn defer_ddl(
        &mut self,
        defer: &Defer,
        plan: &CachedPlan,
        rows: Option<&Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let t = self.transaction.as_ref().expect("every statement runs in a transaction of the session");
        let Tag::Plain(name) = plan.planned.tag else {
            return Err(SqlError::internal("schema changes have plain tags"));
        };
        if t.modes.read_only {
            return Err(read_only_violation(name));
        }
        if t.is_explicit {
            return Err(not_in_block("a schema change that becomes a job"));
        }
        let table = match &plan.planned.plan {
            StatementPlan::Ddl(ddl) => match &**ddl {
                Ddl::AlterTable { table, .. } | Ddl::CreateIndex { table, .. } => table.name.as_str(),
                _ => "",
            },
            _ => "",
        };
        let statement_text = defer.statement.clone();
        let services = DdlServices { statement_text, ..self.ddl_services() };
        let id = services.defer(table, defer.at).await?;
        if let Some(rows) = rows {
            if describes {
                sink.describe(rows);
            }
            let mut batch = Batch::with_capacity(&[DataType::Int8], 1);
            batch.push_row(&[Datum::Int(id.get() as i64)]);
            sink.batch(rows, &batch, &self.eval_context())?;
        }
        self.complete(sink, CommandTag::Plain(name));
        Ok(())
    }

    /// Runs a schema change: inside a block as a part of it, otherwise online, in as many transactions as it takes.
    pub(crate) async fn run_ddl(
        &mut self,
        ddl: &Ddl,
        plan: &CachedPlan,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let planned = &plan.planned;
        let t = self.transaction.as_ref().expect("every statement runs in a transaction of the session");
        let name = match &planned.tag {
            Tag::Plain(s) => s,
            _ => "CREATE TABLE AS",
        };
        if t.modes.read_only {
            return Err(read_only_violation(name));
        }
        // Nothing begins under a lock that somebody else may have.
        self.locks.bound()?;
        let outcome = if t.is_explicit
            || t.has_run
            || matches!(ddl, Ddl::CreateTableAs { .. } | Ddl::Truncate { .. })
        {
            self.run_ddl_in_block(ddl, plan).await?
        } else {
            // The change waits for transactions on the old catalog, of which this one must not be one.
            self.roll_back().await;
            self.run_ddl_online(ddl, plan, sink).await?
        };
        for notice in &outcome.notices {
            let notice = SqlError::new(SqlState::SUCCESSFUL_COMPLETION, notice.clone());
            self.notice(sink, Severity::Notice, &notice);
        }
        if let Ddl::CreateIndex { more, .. } = ddl {
            // One for each statement that is done with this one.
            more.iter().for_each(|_| sink.complete(CommandTag::Plain(name)));
        }
        sink.complete(match (ddl, &planned.tag) {
            (Ddl::CreateTableAs { with_data: true, .. }, _) => CommandTag::Select(outcome.rows),
            (_, Tag::Plain(s)) => CommandTag::Plain(s),
            _ => CommandTag::Plain("CREATE TABLE AS"),
        });
        Ok(())
    }

    /// The plan of a CREATE INDEX together with those that follow it at once in the same query string, of the same table:
    /// they are made with one read of the table, all of them or none. With the number of those that follow.
    pub(crate) fn with_indexes_that_follow(
        &self,
        plan: CachedPlan,
        following: &[Arc<ParsedStatement>],
    ) -> (CachedPlan, usize) {
        let Some(Ddl::CreateIndex { table, .. }) = index_change(&plan) else { return (plan, 0) };
        let mut names = BTreeSet::new();
        let mut more = Vec::new();
        let mut text = String::new();
        for next in following {
            // What is wrong with it is said when its turn comes. A name that was chosen twice is chosen anew then.
            let Ok(found) = self.plan(next, &[]) else { break };
            let Some(Ddl::CreateIndex { table: same, index, .. }) = index_change(&found) else { break };
            let is_new = names.insert(index.name.clone());
            if same.id != table.id || !is_new || is_name_of(&plan, &index.name) {
                break;
            }
            more.push(index.clone());
            text.push_str("; ");
            text.push_str(&next.text);
        }
        let taken = more.len();
        if taken == 0 { (plan, 0) } else { (plan.with_indexes(more, &text), taken) }
    }

    /// Runs a schema change outside of blocks, and tells the client how far it is.
    async fn run_ddl_online(
        &mut self,
        ddl: &Ddl,
        plan: &CachedPlan,
        sink: &mut dyn ResultSink,
    ) -> Result<DdlOutcome, SqlError> {
        let (notices, mut said) = tokio::sync::mpsc::unbounded_channel();
        let statement_text = plan.text();
        let services = DdlServices { statement_text, notices: Some(notices), ..self.ddl_services() };
        let change = services.run(ddl, &plan.planned);
        tokio::pin!(change);
        loop {
            tokio::select! {
                biased;
                outcome = &mut change => return outcome,
                Some(text) = said.recv() => {
                    let notice = SqlError::new(SqlState::SUCCESSFUL_COMPLETION, text);
                    self.notice(sink, Severity::Notice, &notice);
                    // A client that has gone away does not stop the change, and hears of it no more.
                    let _ = sink.flush().await;
                }
            }
        }
    }

    fn show_setting(&self, name: &str) -> String {
        self.settings.lock().show(name).map_or_else(|_| String::new(), |(_, value)| value.to_string())
    }

    async fn run_ddl_in_block(&mut self, ddl: &Ddl, plan: &CachedPlan) -> Result<DdlOutcome, SqlError> {
        let planned = &plan.planned;
        let statement = self.statement(planned, Vec::new())?;
        let t = self.transaction.as_ref().expect("a transaction is open");
        let committed = t.lease.as_ref().expect("the catalog is leased").committed().clone();
        let services = DdlServices { statement_text: plan.text(), ..self.ddl_services() };
        let outcome = services.run_in_transaction(ddl, &statement, &committed).await?;
        let t = self.transaction.as_mut().expect("a transaction is open");
        if let Some((change, snapshot)) = outcome.changed.clone() {
            let concerned = t.changed_catalog.is_some_and(|earlier| earlier.concerns_plans);
            let concerns_plans = change.concerns_plans || concerned;
            t.changed_catalog = Some(BlockChange { concerns_plans, ..change });
            t.lease.as_mut().expect("the catalog is leased").set_private(Some(snapshot));
        }
        Ok(outcome)
    }
}

/// A change of indexes that is neither put off nor has anything to say.
fn index_change(plan: &CachedPlan) -> Option<&Ddl> {
    match &plan.planned.plan {
        StatementPlan::Ddl(ddl) if plan.defer.is_none() && plan.planned.notices.is_empty() => Some(ddl),
        _ => None,
    }
}

fn is_name_of(plan: &CachedPlan, name: &str) -> bool {
    matches!(index_change(plan), Some(Ddl::CreateIndex { index, .. }) if index.name == name)
}
