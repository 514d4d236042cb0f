//! Statements that come one by one before Sync, outside of a block: one transaction, which is run again where it meets a
//! conflict.
//!
//! ```text
//!   first Execute ──Sync──> committed           | conflict: run again as a whole, its answer is replaced (`Replay`)
//!        | second Execute
//!        v
//!   journal of both ── Execute ... Sync ──> committed   | conflict: `replay`, the answers must be the same
//! ```
//! Most transactions are one statement, so that nothing is digested before a second one comes. Nobody can tell what comes next, so
//! that statements which only read have a snapshot each until the first one comes that writes: then those before it are
//! run again under locks. If they answer as they did, the transaction is serializable as a whole.

use std::sync::Arc;

use meridian_datum::{DataType, Datum, SqlError};
use meridian_exec::is_retry;
use meridian_plan::ParsedStatement;

use crate::api::{Flow, ResultSink, RowDescription};
use crate::cache::CachedPlan;
use crate::digest::digest_of;
use crate::journal::{Action, Call, Ending, Journal, Kind, Lost, Seed, Step};
use crate::session::Session;
use crate::transaction::ATTEMPTS_MAX;

/// A statement of the implicit transaction that may be run again when its commit conflicts.
pub(crate) struct Replay {
    pub(crate) parsed: Arc<ParsedStatement>,
    pub(crate) plan: Arc<CachedPlan>,
    pub(crate) params: Vec<Datum>,
    pub(crate) rows: Option<Arc<RowDescription>>,
    pub(crate) declared: Vec<DataType>,
    pub(crate) seed: Seed,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Session {
    /// A second statement comes before Sync: what the first one did becomes the first step of a journal, with which both are
    /// run again.
    pub(crate) fn begin_pipeline(&mut self, sink: &mut dyn ResultSink) {
        let Some(first) = self.replay.take() else { return };
        let Some(t) = self.transaction.as_mut().filter(|t| !t.is_explicit) else { return };
        if t.journal.lost() != Some(Lost::NoBlock) || Kind::of(&first.plan.planned) != Kind::Step {
            return;
        }
        let Some(sent) = sink.appended(first.start) else { return };
        let answer = digest_of(&sent[..(first.end - first.start) as usize]);
        t.journal = Journal::default();
        let Replay { plan, params, rows, seed, .. } = first;
        let action = Action::Run(Call { plan, params, rows, describes: false });
        self.note_step(Step { action, seed, answer, ending: Ending::Done });
    }

    /// Runs the only statement of an implicit transaction again, until it no longer conflicts; its transaction stays
    /// open.
    pub(crate) async fn run_again(
        &mut self,
        r: &Replay,
        e: SqlError,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let mut error = e;
        let mut plan = r.plan.clone();
        for attempt in 2..ATTEMPTS_MAX {
            if self.cancel.is_cancelled() || !sink.rewind(r.start) {
                return Err(error);
            }
            self.shared.retries.note_statement();
            plan.note_retry();
            let id = self.attempt_id();
            self.roll_back().await;
            self.locks.run_again();
            self.cancel.guard(tokio::time::sleep(self.backoff(attempt))).await?;
            self.begin(false);
            if let Some(t) = &mut self.transaction {
                t.retry_of = id;
            }
            self.lease().await?;
            self.look_back(&r.parsed).await?;
            if !plan.is_current(self.snapshot().version(), None) {
                plan = Arc::new(self.plan(&r.parsed, &r.declared)?);
            }
            self.seed = Some(r.seed);
            let result = self.run_plan(&plan, r.params.clone(), r.rows.clone(), false, sink).await;
            self.seed = None;
            match result {
                Err(e) if is_retry(&e) => error = e,
                other => return other,
            }
        }
        Err(error)
    }

    /// Runs it again after its commit met a conflict, and commits.
    pub(crate) async fn commit_again(
        &mut self,
        r: &Replay,
        e: SqlError,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let mut error = e;
        for _ in 0..100 {
            self.run_again(r, error, sink).await?;
            match self.end_implicit(sink).await {
                Err(e) if is_retry(&e) => error = e,
                other => return other,
            }
        }
        Err(error)
    }
}
