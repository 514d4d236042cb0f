//! Cursors: a query whose rows are fetched by statements of their own.
//!
//! A cursor is a portal, as in PostgreSQL: it ends with its transaction, and the extended protocol can execute it by name.
//! Its rows are of the moment at which it was declared. They are made as they are fetched, and go forward only, unless the
//! cursor scrolls or outlives its transaction: then all are made at once, within the statement's memory.

use std::sync::Arc;

use meridian_datum::{Batch, Datum, SqlError, SqlState};
use meridian_exec::{CompiledPoint, Execution, Statement};
use meridian_plan::session::FetchDirection;
use meridian_plan::{PlannedStatement, StatementPlan};

use crate::api::{CommandTag, ResultSink, RowDescription};
use crate::cache::CachedPlan;
use crate::control::only_in_block;
use crate::execute::drain;
use crate::extended::{Hold, Portal, Prepared, Running, Source, duplicate_portal};
use crate::session::Session;

/// `34000`
fn unknown_cursor(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
}

/// `55000`
fn only_forward() -> SqlError {
    SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
        .with_hint("Declare it with SCROLL option to enable backward scan.")
}

/// Rows that are there, and a place among them.
pub(crate) struct Rows {
    all: Batch,
    /// The number of the row that was fetched last; 0 is before the first, and one more than there are is behind the last.
    at: i64,
}

impl Rows {
    fn count(&self) -> i64 {
        self.all.len() as i64
    }

    /// What is left, as the extended protocol takes it.
    pub(crate) fn rest(&mut self) -> Option<Batch> {
        let numbers = self.go(FetchDirection::All);
        (!numbers.is_empty()).then(|| self.all.gather(&numbers))
    }

    /// Moves, and gives the rows on the way, counted from 0.
    fn go(&mut self, direction: FetchDirection) -> Vec<u32> {
        let (from, end) = (self.at, self.count() + 1);
        let rows = |numbers: &mut dyn Iterator<Item = i64>| -> Vec<u32> {
            numbers.filter(|n| (1..end).contains(n)).map(|n| (n - 1) as u32).collect()
        };
        let (to, is_one) = match direction {
            FetchDirection::All => (end, false),
            FetchDirection::AllBackward => (0, false),
            FetchDirection::Forward(0) => (from, true),
            FetchDirection::Forward(n) => (from.saturating_add(n), false),
            FetchDirection::Relative(n) => (from.saturating_add(n), true),
            FetchDirection::Absolute(n) if n < 0 => (end.saturating_add(n), true),
            FetchDirection::Absolute(n) => (n, true),
        };
        self.at = to.clamp(0, end);
        if is_one {
            return rows(&mut std::iter::once(self.at));
        }
        if self.at >= from { rows(&mut (from + 1..=self.at)) } else { rows(&mut (self.at..from).rev()) }
    }
}

/// Rows to pass over, and rows to fetch behind them, from a place that so many rows are before.
fn steps(direction: FetchDirection, passed: u64) -> Result<(u64, u64), SqlError> {
    let forward = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).ok_or_else(only_forward);
    match direction {
        FetchDirection::Forward(n) => Ok((0, forward(n)?)),
        FetchDirection::All => Ok((0, u64::MAX)),
        FetchDirection::AllBackward => Err(only_forward()),
        FetchDirection::Relative(n) => Ok((forward(n)? - 1, 1)),
        FetchDirection::Absolute(n) => {
            let ahead =
                forward(n)?.checked_sub(passed).filter(|ahead| *ahead > 0).ok_or_else(only_forward)?;
            Ok((ahead - 1, 1))
        }
    }
}

impl Session {
    /// DECLARE.
    pub(crate) async fn declare(
        &mut self,
        (name, scroll, hold): (&str, bool, bool),
        query: &Arc<PlannedStatement>,
        params: Vec<Datum>,
    ) -> Result<(), SqlError> {
        if !hold && !self.transaction.as_ref().is_some_and(|t| t.is_explicit) {
            return Err(only_in_block("DECLARE CURSOR"));
        }
        if self.portals.get(name).is_some() {
            return Err(duplicate_portal(name));
        }
        let statement = Arc::new(self.statement(query, params)?);
        let plan = Arc::new(CachedPlan::new(PlannedStatement::clone(query), None, None, 0, None));
        let source = match &query.plan {
            StatementPlan::Query(_) => {
                let execution = Execution::start(statement.clone());
                if scroll || hold {
                    self.gather(execution, &statement, plan.rows.as_deref()).await?
                } else {
                    Source::Execution(execution)
                }
            }
            point => {
                let point = CompiledPoint::new(point, &statement.catalog)?;
                let point = point.expect("a query is either run by operators or a point statement");
                let all = point.run(&statement).await?.0.unwrap_or_default();
                Source::Rows(Rows { all, at: 0 })
            }
        };
        self.check_read()?;
        let running = Running { source, statement, pending: None, passed: 0 };
        let prepared = Arc::new(Prepared::new("".into(), None, Vec::new(), plan.clone(), true));
        let hold = if hold { Hold::IfCommitted } else { Hold::Transaction };
        self.portals.insert(name, Portal::running(prepared, plan, running, hold));
        Ok(())
    }

    /// All rows of a query at once.
    async fn gather(
        &mut self,
        mut execution: Execution,
        statement: &Statement,
        rows: Option<&RowDescription>,
    ) -> Result<Source, SqlError> {
        let types = rows.iter().flat_map(|r| &r.fields).map(|f| &f.data_type);
        let mut all = Batch::with_capacity(types, 0);
        let mut memory = statement.memory.reservation();
        while let Some(batch) = execution.next().await? {
            memory.grow(batch.heap_size())?;
            all.append(&batch);
        }
        Ok(Source::Rows(Rows { all, at: 0 }))
    }

    /// A transaction ends: portals do, but for those that outlive it.
    pub(crate) fn close_portals(&mut self, committed: bool) {
        self.portals.retain(|p| p.survives(committed));
    }

    /// What FETCH from this cursor gives, where there is one.
    pub(crate) fn cursor_rows(&self, name: &str) -> Option<Arc<RowDescription>> {
        self.portals.get(name).and_then(Portal::rows)
    }

    /// FETCH and MOVE.
    pub(crate) async fn fetch_from(
        &mut self,
        (name, direction, is_move): (&str, FetchDirection, bool),
        describes: bool,
        rows: Option<&Arc<RowDescription>>,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let mut portal = self.portals.remove(name).ok_or_else(|| unknown_cursor(name))?;
        let rows = rows.cloned().or_else(|| portal.rows()).unwrap_or_default();
        if describes && !is_move {
            sink.describe(&rows);
        }
        let fetched = self.pull(&mut portal, direction, (!is_move).then_some(&*rows), sink).await;
        self.portals.insert(name, portal);
        let count = fetched?;
        self.send_warnings(sink);
        sink.complete(if is_move { CommandTag::Move(count) } else { CommandTag::Fetch(count) });
        Ok(())
    }

    /// Takes rows from a cursor, and sends them where they are described. Returns how many there were.
    async fn pull(
        &mut self,
        portal: &mut Portal,
        direction: FetchDirection,
        rows: Option<&RowDescription>,
        sink: &mut dyn ResultSink,
    ) -> Result<u64, SqlError> {
        let Some(running) = portal.as_running() else { return Ok(0) };
        if let Source::Rows(stored) = &mut running.source {
            let numbers = stored.go(direction);
            if let Some(rows) = rows
                && !numbers.is_empty()
            {
                sink.batch(rows, &stored.all.gather(&numbers), &running.statement.eval)?;
            }
            return Ok(numbers.len() as u64);
        }
        let (mut skip, wanted) = steps(direction, running.passed)?;
        let mut taken = 0;
        while taken < wanted {
            let Some(batch) = running.next().await? else {
                portal.end();
                break;
            };
            self.check_read()?;
            let len = batch.len() as u64;
            let first = skip.min(len);
            let last = first + (len - first).min(wanted - taken);
            skip -= first;
            running.passed += last;
            taken += last - first;
            let part = |from: u64, to: u64| -> Batch { batch.slice(from as usize..to as usize) };
            if last < len {
                running.pending = Some(part(last, len));
            }
            if let Some(rows) = rows
                && first < last
            {
                sink.batch(rows, &part(first, last), &running.statement.eval)?;
                drain(sink).await?;
            }
        }
        Ok(taken)
    }

    /// CLOSE.
    pub(crate) fn close_cursor(&mut self, name: Option<&str>) -> Result<&'static str, SqlError> {
        match name {
            None => {
                self.portals.clear();
                Ok("CLOSE CURSOR ALL")
            }
            Some(name) => match self.portals.remove(name) {
                Some(_) => Ok("CLOSE CURSOR"),
                None => Err(unknown_cursor(name)),
            },
        }
    }
}
