//! Running one planned statement in the open transaction.

use std::sync::Arc;

use meridian_datum::{Batch, Datum, SqlError};
use meridian_exec::copy::{CopyIn, CopyOut};
use meridian_exec::{Environment, Execution, MemoryAccount, Statement};
use meridian_plan::ddl::{Copy, CopyDirection, CopyKind};
use meridian_plan::planned::CommandTag as Tag;
use meridian_plan::session::SessionStatement;
use meridian_plan::{PlannedStatement, StatementPlan};

use crate::api::{CommandTag, CopyHeader, Flow, ResultSink, RowDescription, Severity};
use crate::cache::CachedPlan;
use crate::session::{CopyState, Session};
use crate::transaction::read_only_violation;

/// The tag of a statement that sent `rows` and wrote `affected` rows.
pub(crate) fn command_tag(tag: &Tag, rows: u64, affected: u64) -> CommandTag {
    match tag {
        Tag::Select => CommandTag::Select(rows),
        Tag::Insert => CommandTag::Insert(affected),
        Tag::Update => CommandTag::Update(affected),
        Tag::Delete => CommandTag::Delete(affected),
        Tag::Copy => CommandTag::Copy(rows.max(affected)),
        Tag::Plain(s) => CommandTag::Plain(s),
    }
}

fn command_name(planned: &PlannedStatement) -> &'static str {
    match &planned.tag {
        Tag::Select => "SELECT FOR UPDATE",
        Tag::Insert => "INSERT",
        Tag::Update => "UPDATE",
        Tag::Delete => "DELETE",
        Tag::Copy => "COPY FROM",
        Tag::Plain(s) => s,
    }
}

/// The plan of LOCK TABLE's reads: it writes nothing, and must lock.
pub(crate) fn write_placeholder() -> PlannedStatement {
    PlannedStatement {
        plan: StatementPlan::Session(Box::new(SessionStatement::Empty)),
        param_types: Vec::new(),
        columns: None,
        tag: Tag::Plain("LOCK TABLE"),
        ctes: Vec::new(),
        tables: Vec::new(),
        is_read_only: false,
        single_operation: false,
        cacheable: false,
        as_of: None,
        notices: Vec::new(),
    }
}

/// Whether the statement needs the store's transaction.
fn needs_kv(planned: &PlannedStatement) -> bool {
    match &planned.plan {
        StatementPlan::Session(s) => matches!(
            s.as_ref(),
            SessionStatement::Copy(_) | SessionStatement::LockTable { .. } | SessionStatement::Execute { .. }
        ),
        StatementPlan::Explain(e) => e.analyze,
        _ => true,
    }
}

/// Sends the client what is buffered, when that is much.
pub(crate) async fn drain(sink: &mut dyn ResultSink) -> Result<(), SqlError> {
    if sink.is_full() {
        sink.flush()
            .await
            .map_err(|e| SqlError::new(meridian_datum::SqlState::CONNECTION_FAILURE, e.to_string()))?;
    }
    Ok(())
}

impl Session {
    /// Runs a statement of a simple query in the open transaction.
    pub(crate) async fn run_in_transaction(
        &mut self,
        plan: &Arc<CachedPlan>,
        params: Vec<Datum>,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let rows = plan.rows.clone();
        self.run_plan(plan, params, rows, true, sink).await
    }

    /// Runs a statement in the open transaction, once. `describes`: rows are announced, as simple queries do.
    pub(crate) async fn run_once(
        &mut self,
        plan: &Arc<CachedPlan>,
        params: Vec<Datum>,
        rows: Option<Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        match self.run_unconfirmed(plan, params, rows, describes, sink).await {
            Err(e) => Err(self.confirmed(e).await),
            done => done,
        }
    }

    /// Futures are copied when they are awaited: all but the point statements' are boxed, so that these, which are short
    /// enough to mind, copy little.
    async fn run_unconfirmed(
        &mut self,
        plan: &Arc<CachedPlan>,
        params: Vec<Datum>,
        rows: Option<Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let planned = plan.planned.clone();
        self.check_failed(&planned)?;
        for text in &planned.notices {
            let notice = SqlError::new(meridian_datum::SqlState::SUCCESSFUL_COMPLETION, text.clone());
            self.notice(sink, Severity::Notice, &notice);
        }
        if let StatementPlan::Session(s) = &planned.plan
            && !matches!(s.as_ref(), SessionStatement::Copy(_))
        {
            if let SessionStatement::Declare { name, scroll, hold, query } = s.as_ref() {
                Box::pin(self.declare((name, *scroll, *hold), query, params)).await?;
                sink.complete(CommandTag::Plain("DECLARE CURSOR"));
                return Ok(Flow::Done);
            }
            return Box::pin(self.run_control(s, describes, rows.as_ref(), sink)).await;
        }
        if let Some(defer) = &plan.defer {
            Box::pin(self.defer_ddl(defer, plan, rows.as_ref(), describes, sink)).await?;
            return Ok(Flow::Done);
        }
        if let StatementPlan::Ddl(ddl) = &planned.plan {
            Box::pin(self.run_ddl(ddl, plan, sink)).await?;
            return Ok(Flow::Done);
        }
        let statement = self.statement(&planned, params)?;
        match &planned.plan {
            StatementPlan::Query(_) => {
                Box::pin(self.run_query(plan, statement, rows, describes, sink)).await?;
            }
            StatementPlan::Explain(_) => {
                Box::pin(self.run_explain(plan, statement, describes, sink)).await?;
            }
            StatementPlan::Session(_) => return Box::pin(self.run_copy(statement, sink)).await,
            _ => {
                let point =
                    plan.point.as_ref().expect("the codecs of a point statement are made with its plan");
                let (batch, affected) = point.run(&statement).await?;
                self.check_read()?;
                if describes && let Some(rows) = &rows {
                    sink.describe(rows);
                }
                let mut sent = 0;
                if let (Some(batch), Some(rows)) = (&batch, &rows) {
                    sent = batch.len() as u64;
                    sink.batch(rows, batch, &statement.eval)?;
                }
                self.complete(sink, command_tag(&planned.tag, sent, affected));
            }
        }
        Ok(Flow::Done)
    }

    /// Sends a command tag, which is taken back when the commit that follows it fails.
    pub(crate) fn complete(&mut self, sink: &mut dyn ResultSink, tag: CommandTag) {
        self.send_warnings(sink);
        self.row_count = tag.rows();
        let start = sink.position();
        sink.complete(tag);
        self.last_tag = Some((start, sink.position()));
    }

    /// Sends what the statement warns of.
    pub(crate) fn send_warnings(&self, sink: &mut dyn ResultSink) {
        for warning in self.locks.take_warnings() {
            self.notice(sink, Severity::Warning, &warning);
        }
    }

    /// The statement whose tag was sent last did not commit.
    pub(crate) fn take_tag_back(&mut self, sink: &mut dyn ResultSink) {
        if let Some((start, end)) = self.last_tag.take()
            && sink.position() == end
        {
            sink.rewind(start);
        }
    }

    /// A statement ready to run in the open transaction.
    pub(crate) fn statement(
        &mut self,
        planned: &Arc<PlannedStatement>,
        params: Vec<Datum>,
    ) -> Result<Statement, SqlError> {
        let t = self.transaction.as_ref().expect("a transaction of the session is open");
        if !planned.is_read_only && t.modes.read_only && needs_kv(planned) {
            return Err(read_only_violation(command_name(planned)));
        }
        self.begin_kv(planned)?;
        let eval = self.eval_context();
        let effective = self.settings.lock().effective().clone();
        let memory = MemoryAccount::new(effective.memory_limit);
        let catalog = self.snapshot();
        let t = self.transaction.as_mut().expect("a transaction of the session is open");
        t.has_run = true;
        if let Some(kv) = &t.kv
            && effective.lock_timeout != t.lock_timeout
        {
            kv.set_lock_timeout(effective.lock_timeout);
            t.lock_timeout = effective.lock_timeout;
        }
        t.lease.as_mut().expect("the catalog is leased").note_used(&planned.tables);
        let environment = Environment {
            txn: t.kv.clone().expect("the store's transaction has begun"),
            kv: self.shared.kv.clone(),
            cluster: self.shared.cluster.clone(),
            catalog,
            session: self.view.clone(),
            cancel: self.cancel.clone(),
            memory,
            eval,
            params,
        };
        Ok(Statement::new(planned.clone(), environment))
    }

    async fn run_query(
        &mut self,
        plan: &CachedPlan,
        statement: Statement,
        rows: Option<Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let statement = Arc::new(statement);
        let mut execution = Execution::start(statement.clone());
        let mut sent = 0u64;
        let mut described = !describes;
        loop {
            let batch = execution.next().await?;
            // The first batch has chosen the timestamp.
            if sent == 0 {
                self.check_read()?;
            }
            // Described late, so that an error of the first rows comes without a description, as in PostgreSQL.
            if !described && let Some(rows) = &rows {
                sink.describe(rows);
            }
            described = true;
            let Some(batch) = batch else { break };
            if let Some(rows) = &rows {
                sent += batch.len() as u64;
                sink.batch(rows, &batch, &statement.eval)?;
                drain(sink).await?;
            }
        }
        self.complete(sink, command_tag(&plan.planned.tag, sent, execution.affected()));
        Ok(())
    }

    async fn run_explain(
        &mut self,
        plan: &CachedPlan,
        statement: Statement,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let StatementPlan::Explain(explain) = &plan.planned.plan else { panic!("EXPLAIN is explained") };
        let mut lines = explain.lines.clone();
        if explain.analyze {
            lines.extend(self.analyze(&explain.statement, &statement).await?);
        }
        let rows = plan.rows.clone().unwrap_or_default();
        if describes {
            sink.describe(&rows);
        }
        let types = [meridian_datum::DataType::Text];
        let mut batch = Batch::with_capacity(&types, lines.len());
        for line in &lines {
            batch.push_row(&[Datum::from(line.as_str())]);
        }
        sink.batch(&rows, &batch, &statement.eval)?;
        sink.complete(CommandTag::Plain("EXPLAIN"));
        Ok(())
    }

    /// Runs the statement of EXPLAIN ANALYZE; its rows are counted and dropped.
    async fn analyze(
        &mut self,
        planned: &PlannedStatement,
        outer: &Statement,
    ) -> Result<Vec<String>, SqlError> {
        let started = std::time::Instant::now();
        let planned = Arc::new(planned.clone());
        let inner = self.statement(&planned, outer.params.clone())?;
        let mut rows = 0u64;
        let mut affected = 0u64;
        match &planned.plan {
            StatementPlan::Query(_) => {
                let mut execution = Execution::start(Arc::new(inner));
                while let Some(batch) = execution.next().await? {
                    rows += batch.len() as u64;
                }
                affected = execution.affected();
            }
            plan => {
                if let Some(point) = meridian_exec::CompiledPoint::new(plan, &inner.catalog)? {
                    let (batch, written) = point.run(&inner).await?;
                    rows = batch.map_or(0, |b| b.len() as u64);
                    affected = written;
                }
            }
        }
        let elapsed = started.elapsed();
        Ok(vec![
            format!("Actual rows: {rows}, written: {affected}"),
            format!("Execution Time: {:.3} ms", elapsed.as_secs_f64() * 1e3),
        ])
    }

    async fn run_copy(&mut self, statement: Statement, sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        let statement = Arc::new(statement);
        let StatementPlan::Session(session) = &statement.planned.plan else { panic!("COPY is copied") };
        let SessionStatement::Copy(copy) = session.as_ref() else { panic!("COPY is copied") };
        match &copy.direction {
            CopyDirection::From { .. } => {
                let input = CopyIn::new(statement.clone())?;
                sink.copy_in(CopyHeader { columns: input.columns() as u16, is_binary: input.is_binary() });
                self.copy = Some(CopyState { input, kept: None, rest: Vec::new(), is_simple: false });
                Ok(Flow::CopyIn)
            }
            CopyDirection::To { .. } => {
                self.copy_out(&statement, copy, sink).await?;
                Ok(Flow::Done)
            }
        }
    }

    async fn copy_out(
        &mut self,
        statement: &Arc<Statement>,
        copy: &Copy,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let CopyDirection::To { query, names } = &copy.direction else { panic!("COPY TO is sent") };
        let mut writer = CopyOut::new(&copy.format, &query.types);
        let mut execution = Execution::start(statement.clone());
        let mut lines = Vec::new();
        let mut rows = 0u64;
        let is_binary = copy.format.kind == CopyKind::Binary;
        sink.copy_out(CopyHeader { columns: query.types.len() as u16, is_binary });
        writer.header(names, &mut lines);
        if !lines.is_empty() {
            sink.copy_data(&lines);
        }
        while let Some(batch) = execution.next().await? {
            if rows == 0 {
                self.check_read()?;
            }
            for row in 0..batch.len() {
                lines.clear();
                writer.row(&statement.eval, &batch, row, &mut lines);
                sink.copy_data(&lines);
            }
            rows += batch.len() as u64;
            drain(sink).await?;
        }
        lines.clear();
        writer.trailer(&mut lines);
        if !lines.is_empty() {
            sink.copy_data(&lines);
        }
        sink.copy_out_done();
        sink.complete(CommandTag::Copy(rows));
        Ok(())
    }
}
