//! Running a transaction again behind the client's back: a block, several statements of one message or before one Sync, or a
//! COPY FROM STDIN (DESIGN section 5, Retries). A statement of its own that is none of these is run again by its caller as a whole.
//!
//! ```text
//!   statement ──ok, error──> journal: statement, parameters, seed, digest of the answer
//!       | 40001 of the store (also at COMMIT)
//!       v
//!   restart: roll back, begin under the first attempt's age, leased catalog, settings of the beginning
//!       v
//!   rehearse every step ──an answer differs──> 40001 for the client
//!       | all the same          \──40001 again──> restart
//!       v
//!   the statement that met the conflict goes on
//! ```
//! What the client has seen is thus true of the attempt that commits, as if only that one had ever been. Statements are
//! planned anew where the catalog has changed meanwhile. `now()`, `random()` and `gen_random_uuid()` start from the
//! recorded time and seed. `clock_timestamp()` does not, nor do identity columns: a block that has shown one of them is
//! run again and found to differ.
//!
//! Savepoints are steps like others, and so are cursors and fetches from a portal with a row limit: portals that have begun
//! are made again under their names and fetched to where they were. An error from which a savepoint brought the block back
//! is met again where it is about data, and passed over where it is not (a timeout). COPY is a step with the data that came
//! (`copy`).
//!
//! Not run again, with 40001 and the reason for the client: what [`Lost`] lists.
//!
//! Invariant: between two requests of the client the journal is what the store's open transaction has done, or it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::future::BoxFuture;
use meridian_datum::{Datum, SqlError, SqlState};
use meridian_exec::is_retry;
use meridian_plan::session::SessionStatement;
use meridian_plan::{PlannedStatement, StatementPlan};
use rand::Rng;

use crate::api::{CommandTag, Flow, ResultSink, RowDescription};
use crate::cache::CachedPlan;
use crate::digest::Digesting;
use crate::extended::{Portal, unknown_portal};
use crate::journal::{Action, Call, Ending, Journal, Kind, Lost, Seed, Step, copies_in};
use crate::session::Session;
use crate::transaction::ATTEMPTS_MAX;

/// Counts hidden retries. Shared by the sessions of a node.
#[derive(Debug, Default)]
pub(crate) struct RetryCounters {
    statements: AtomicU64,
    blocks: AtomicU64,
    blocks_changed: AtomicU64,
    shown: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl RetryCounters {
    /// A statement of its own is run again.
    pub(crate) fn note_statement(&self) {
        count(&self.statements);
    }

    /// A client is told 40001.
    pub(crate) fn note_shown(&self) {
        count(&self.shown);
    }

    /// All of them by name.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        [
            ("retried_statements", &self.statements),
            ("retried_blocks", &self.blocks),
            ("retried_blocks_changed", &self.blocks_changed),
            ("serialization_failures", &self.shown),
        ]
        .map(|(name, counter)| (name.to_owned(), counter.load(Ordering::Relaxed)))
        .into()
    }
}

impl Session {
    /// Whether the gateway may run aborted transactions again.
    pub(crate) fn retries_transparently(&self) -> bool {
        self.settings.lock().effective().transparent_retries
    }

    pub(crate) fn new_seed(&self) -> Seed {
        Seed { now: self.now(), random: self.rng.lock().random() }
    }

    pub(crate) fn lost(&self) -> Option<Lost> {
        self.transaction.as_ref().map_or(Some(Lost::NoBlock), |t| t.journal.lost())
    }

    /// Whether what the open transaction does is written down.
    fn is_journaled(&mut self) -> bool {
        if self.lost().is_none() && !self.retries_transparently() {
            self.lose_journal(Lost::Off);
        }
        self.lost().is_none()
    }

    pub(crate) fn lose_journal(&mut self, why: Lost) {
        if let Some(t) = &mut self.transaction {
            t.journal.lose(why);
        }
    }

    pub(crate) fn note_step(&mut self, step: Step) {
        let limit = self.settings.lock().effective().transparent_retry_limit;
        // A statement may have ended its transaction.
        let Some(t) = &mut self.transaction else { return };
        // Statements of one message have a snapshot each.
        if t.kv_read_only && t.is_explicit {
            t.journal.lose(Lost::Snapshot);
        }
        t.journal.push(step, limit);
    }

    /// The error as the client sees it, when the open transaction is not run again.
    pub(crate) fn explain<T>(&self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        result.map_err(|e| match self.lost() {
            Some(why) => why.explain(e),
            None => e,
        })
    }

    /// Runs a statement in the open transaction. `describes`: rows are announced, as simple queries do. Where the store
    /// aborts a transaction block, all of it is run again.
    pub(crate) async fn run_plan(
        &mut self,
        plan: &Arc<CachedPlan>,
        params: Vec<Datum>,
        rows: Option<Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let Some(shape) = &plan.shape else {
            return self.run_planned(plan, params, rows, describes, sink).await;
        };
        let begun = Instant::now();
        self.row_count = 0;
        let result = self.run_planned(plan, params, rows, describes, sink).await;
        shape.note(&result, true, self.row_count, begun.elapsed());
        result
    }

    async fn run_planned(
        &mut self,
        plan: &Arc<CachedPlan>,
        params: Vec<Datum>,
        rows: Option<Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        if self.lost() == Some(Lost::NoBlock) && !self.begins_with_copy(&plan.planned) {
            return self.run_once(plan, params, rows, describes, sink).await;
        }
        let is_step = match Kind::of(&plan.planned) {
            Kind::Step => self.concerns_block(&plan.planned),
            Kind::NoStep => false,
            Kind::Once(why) => {
                self.lose_journal(why);
                false
            }
        };
        if is_step && self.is_journaled() {
            return self.run_journaled(plan, params, rows, describes, sink).await;
        }
        let result = self.run_once(plan, params, rows, describes, sink).await;
        // COMMIT has explained itself.
        if is_step { self.explain(result) } else { result }
    }

    /// Whether the statement is a COPY FROM STDIN that its transaction begins with; what it does is written down then.
    fn begins_with_copy(&mut self, planned: &PlannedStatement) -> bool {
        let Some(t) = self.transaction.as_mut().filter(|t| !t.has_run) else { return false };
        if !copies_in(planned) {
            return false;
        }
        t.keep_journal();
        true
    }

    /// False for what is fetched from a cursor that has outlived its transaction: its rows are there already.
    fn concerns_block(&self, planned: &PlannedStatement) -> bool {
        let StatementPlan::Session(statement) = &planned.plan else { return true };
        let (SessionStatement::Fetch { name, .. } | SessionStatement::Close(Some(name))) = &**statement
        else {
            return true;
        };
        self.portals.get(name).is_none_or(|portal| !portal.outlives())
    }

    async fn run_journaled(
        &mut self,
        plan: &Arc<CachedPlan>,
        params: Vec<Datum>,
        rows: Option<Arc<RowDescription>>,
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let was_failed = self.is_failed();
        let mut call = Call { plan: plan.clone(), params, rows, describes };
        loop {
            let start = sink.position();
            let seed = self.new_seed();
            let mut recording = Digesting::recording(sink);
            let result = self.run_call(&call, seed, &mut recording).await;
            let answer = recording.finish(&result);
            match &result {
                Err(e) if is_retry(e) => {
                    if !sink.rewind(start) {
                        self.lose_journal(Lost::Sent);
                        return self.explain(result);
                    }
                    call.plan.note_retry();
                    self.run_block_again(e.clone(), sink).await?;
                    call.plan = self.refresh(&call.plan)?;
                }
                Ok(Flow::CopyIn) => {
                    self.keep_copy(call, seed);
                    return result;
                }
                // What a failed block refuses changes nothing.
                Err(_) if was_failed => return result,
                _ => {
                    let ending = Ending::of(&result);
                    self.note_step(Step { action: Action::Run(call), seed, answer, ending });
                    return result;
                }
            }
        }
    }

    pub(crate) async fn run_call(
        &mut self,
        call: &Call,
        seed: Seed,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        self.seed = Some(seed);
        let result =
            self.run_once(&call.plan, call.params.clone(), call.rows.clone(), call.describes, sink).await;
        self.seed = None;
        result
    }

    /// Fetches from a running portal, or one that starts to run, as a step of the block. The portal is in nobody's list
    /// meanwhile, and comes back even from an error.
    pub(crate) async fn fetch_journaled(
        &mut self,
        name: &str,
        mut portal: Portal,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        if let Kind::Once(why) = portal.kind() {
            self.lose_journal(why);
        }
        if !portal.reads() || !self.is_journaled() {
            let mut result = self.fetch(&mut portal, max_rows, sink).await;
            if let Err(e) = result {
                result = Err(self.confirmed(e).await);
            }
            self.portals.insert(name, portal);
            return self.explain(result);
        }
        loop {
            let start = sink.position();
            let seed = self.new_seed();
            let opens = portal.unopened();
            let mut recording = Digesting::recording(sink);
            self.seed = Some(seed);
            let mut result = self.fetch(&mut portal, max_rows, &mut recording).await;
            if let Err(e) = result {
                result = Err(self.confirmed(e).await);
            }
            self.seed = None;
            let answer = recording.finish(&result);
            match &result {
                Err(e) if is_retry(e) && sink.rewind(start) => {
                    let e = e.clone();
                    match opens {
                        Some(opens) => {
                            self.run_block_again(e, sink).await?;
                            portal = opens.open();
                        }
                        None => {
                            self.portals.insert(name, portal);
                            self.run_block_again(e, sink).await?;
                            portal = self.portals.remove(name).expect("a portal midway is made again");
                        }
                    }
                }
                _ => {
                    if result.as_ref().is_err_and(is_retry) {
                        self.lose_journal(Lost::Sent);
                    }
                    let action = Action::Fetch { portal: name.to_owned(), max_rows, opens };
                    let ending = Ending::of(&result);
                    self.note_step(Step { action, seed, answer, ending });
                    self.portals.insert(name, portal);
                    return self.explain(result);
                }
            }
        }
    }

    /// Commits; where the store asks for a retry, runs the block again first.
    pub(crate) async fn commit_journaled(&mut self, sink: &mut dyn ResultSink) -> Result<(), SqlError> {
        loop {
            match self.commit().await {
                Err(e) if is_retry(&e) && self.lost().is_none() => self.run_block_again(e, sink).await?,
                result => return self.explain(result),
            }
        }
    }

    /// Runs everything again that the open block has done, under its age, until it meets no conflict.
    ///
    /// # Errors
    /// The conflict, where the block can't be run again or would have answered differently.
    pub(crate) fn run_block_again<'a>(
        &'a mut self,
        conflict: SqlError,
        sink: &'a mut dyn ResultSink,
    ) -> BoxFuture<'a, Result<(), SqlError>> {
        Box::pin(async move {
            let mut conflict = conflict;
            loop {
                self.cancel.check()?;
                self.is_journaled();
                let t = self.transaction.as_mut().expect("what met a conflict is open");
                t.attempts += 1;
                let attempts = t.attempts;
                if let Some(why) = t.journal.lost() {
                    return Err(why.explain(conflict));
                }
                if attempts >= ATTEMPTS_MAX {
                    return Err(conflict);
                }
                count(&self.shared.retries.blocks);
                match self.attempt_again(attempts, sink).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {
                        count(&self.shared.retries.blocks_changed);
                        self.spoil(Lost::Changed).await;
                        return Err(Lost::Changed.explain(conflict).with_hint(
                            "Results that were sent no longer hold. Run the transaction again from its beginning.",
                        ));
                    }
                    Err(e) if is_retry(&e) => conflict = e,
                    Err(e) => {
                        self.spoil(Lost::Interrupted).await;
                        return Err(e);
                    }
                }
            }
        })
    }

    /// One attempt at all steps. False when one of them answers differently than before.
    async fn attempt_again(&mut self, attempts: u32, sink: &mut dyn ResultSink) -> Result<bool, SqlError> {
        let t = self.transaction.as_mut().expect("what met a conflict is open");
        let journal = std::mem::take(&mut t.journal);
        let last_tag = self.last_tag.take();
        // Those that are open now are those of the block's end; steps begin with none.
        let portals = self.portals.split_off(Portal::outlives);
        self.restart_block().await;
        let outcome = match self.cancel.guard(tokio::time::sleep(self.backoff(attempts))).await {
            Ok(()) => self.rehearse(&journal, sink).await,
            Err(e) => Err(e),
        };
        self.seed = None;
        self.last_tag = last_tag;
        let mut again = self.portals.split_off(Portal::outlives);
        let mut is_same = matches!(outcome, Ok(true));
        for (name, portal) in portals {
            let fresh = again.iter().position(|(n, p)| *n == name && p.is_midway());
            match fresh.filter(|_| portal.is_midway()) {
                Some(at) => self.portals.insert(&name, again.swap_remove(at).1),
                None => {
                    is_same &= !portal.is_midway();
                    self.portals.insert(&name, portal);
                }
            }
        }
        let t = self.transaction.as_mut().expect("no step ends the transaction");
        assert!(t.journal.steps().is_empty(), "what is rehearsed is not written down again");
        t.journal = journal;
        outcome.map(|_| is_same)
    }

    /// The attempt under way is not what the client knows: only ROLLBACK is left.
    async fn spoil(&mut self, why: Lost) {
        let Some(t) = &mut self.transaction else { return };
        t.journal.lose(why);
        t.savepoints.clear();
        if let Some(kv) = t.kv.take() {
            kv.rollback().await;
        }
    }

    /// The block as it was after BEGIN, under its age.
    async fn restart_block(&mut self) {
        let t = self.transaction.as_mut().expect("a transaction is open");
        if let Some(kv) = t.kv.take() {
            t.retry_of = kv.id().or(t.retry_of);
            kv.rollback().await;
        }
        t.kv_read_only = false;
        t.kv_is_spent = false;
        t.is_failed = false;
        t.has_run = false;
        t.savepoints.clear();
        t.lease = None;
        t.changed_catalog = None;
        t.modes = t.beginning.modes.clone();
        let settings = t.beginning.settings.clone();
        self.settings.lock().restore(&settings);
        self.bump_settings();
    }

    /// Does the steps of a journal. False when one of them answers differently than before.
    async fn rehearse(&mut self, journal: &Journal, sink: &mut dyn ResultSink) -> Result<bool, SqlError> {
        for step in journal.steps() {
            self.past = None;
            if step.ending == Ending::Interrupted {
                self.fail_step();
                continue;
            }
            self.lease().await?;
            let mut rehearsal = Digesting::rehearsing(sink);
            let result = self.do_step(step, &mut rehearsal).await;
            self.seed = None;
            let answer = rehearsal.finish(&result);
            let ending = Ending::of(&result);
            if let (Ending::Interrupted, Err(e)) = (ending, result) {
                return Err(e);
            }
            if answer != step.answer || ending != step.ending {
                return Ok(false);
            }
            if ending == Ending::Failed {
                self.fail_step();
            }
        }
        self.lease().await?;
        Ok(true)
    }

    /// As [`Session::fail`], behind the client's back: a savepoint will bring the block back.
    fn fail_step(&mut self) {
        self.transaction.as_mut().expect("a transaction is open").is_failed = true;
        self.close_portals(false);
    }

    async fn do_step(&mut self, step: &Step, sink: &mut dyn ResultSink) -> Result<(), SqlError> {
        self.seed = Some(step.seed);
        match &step.action {
            Action::Run(call) => {
                let plan = self.refresh(&call.plan)?;
                let call = Call { plan, ..call.clone() };
                self.run_call(&call, step.seed, sink).await?;
            }
            Action::Copy { call, data } => {
                let input = self.copy_in_again(call, step.seed, data, sink).await?;
                let rows = Box::pin(input.finish()).await?;
                self.complete(sink, CommandTag::Copy(rows));
            }
            Action::Fetch { portal: name, max_rows, opens } => {
                let found = match opens {
                    Some(opens) => Some(opens.open()),
                    None => self.portals.remove(name),
                };
                let mut portal = found.ok_or_else(|| unknown_portal(name))?;
                let fetched = self.fetch(&mut portal, *max_rows, sink).await;
                self.portals.insert(name, portal);
                fetched?;
            }
        }
        Ok(())
    }

    /// The plan, made anew where the catalog has changed.
    pub(crate) fn refresh(&self, plan: &Arc<CachedPlan>) -> Result<Arc<CachedPlan>, SqlError> {
        if plan.is_current(self.snapshot().version(), self.private_catalog()) {
            return Ok(plan.clone());
        }
        let Some((parsed, types)) = &plan.source else { return Ok(plan.clone()) };
        let fresh = self.plan(parsed, types)?;
        if !fresh.answers_like(plan) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            ));
        }
        Ok(Arc::new(fresh))
    }
}
