//! Beginning, committing and undoing transactions.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_datum::{SqlError, SqlState};
use meridian_exec::{is_retry, sql_error};
use meridian_kv_api::{ReadBound, ReadOnlyOptions, ReadWriteOptions};
use meridian_plan::{PlannedStatement, StatementPlan};
use meridian_types::TxnId;
use rand::Rng;

use crate::api::{Flow, ResultSink};
use crate::block::{Modes, Transaction, in_failed_transaction};
use crate::cache::CachedPlan;
use crate::journal::{Lost, is_transient};
use crate::session::Session;
use crate::several::Outlook;
use crate::simple::Simple;

/// Attempts of a statement that conflicts. Its age grows with every one, so that it wins in the end; the number only
/// bounds a store that does not recover.
pub(crate) const ATTEMPTS_MAX: u32 = 1000;

impl Session {
    /// The pause before an attempt: none at first, then up to a tenth of a second, at random.
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        if attempt <= 2 {
            return Duration::ZERO;
        }
        let ceiling = 1u64 << attempt.min(10);
        Duration::from_micros(self.rng.lock().random_range(0..=ceiling * 100))
    }

    /// Begins a transaction of the session; the store's begins with its first statement.
    pub(crate) fn begin(&mut self, is_explicit: bool) {
        let settings = self.settings.lock();
        let effective = settings.effective().clone();
        let mark = settings.mark();
        drop(settings);
        let modes = Modes {
            read_only: effective.default_read_only,
            isolation: effective.default_isolation.clone(),
            deferrable: false,
            as_of: None,
        };
        self.info.lock().transactions += 1;
        self.transaction = Some(Transaction::new(modes, mark, self.now(), is_explicit));
    }

    /// Begins the store's transaction, if the session's has none.
    pub(crate) fn begin_kv(&mut self, planned: &PlannedStatement) -> Result<(), SqlError> {
        let shared = self.shared.clone();
        let effective = self.settings.lock().effective().clone();
        let staleness = effective.staleness;
        let t = self.transaction.as_mut().expect("a transaction of the session is open");
        if t.kv.is_some() {
            if planned.as_of.is_some() {
                return Err(SqlError::unsupported(
                    "AS OF SYSTEM TIME after the first statement of a transaction",
                ));
            }
            if !t.kv_is_spent {
                return t.check_write_after_reads(planned);
            }
            t.check_write_after_snapshots(planned)?;
            // The statement before was to be alone. What follows reads a snapshot of its own.
            t.kv = None;
            t.kv_is_spent = false;
        }
        let as_of = planned.as_of.or(t.modes.as_of);
        let only_reads = as_of.is_some() || t.modes.read_only || (planned.is_read_only && !t.may_write());
        let kv = if only_reads {
            let bound = match &self.past {
                Some(past) => ReadBound::At(past.at),
                None if staleness == Default::default() => ReadBound::Strong,
                // What is planned on the present catalog reads nothing from before it.
                None => match (staleness.bound(shared.kv.now().map_err(sql_error)?), &t.lease) {
                    (ReadBound::AtLeast(at), Some(lease)) => {
                        ReadBound::AtLeast(at.max(lease.guard().valid_from()))
                    }
                    (bound, _) => bound,
                },
            };
            let is_shared = t.is_explicit || (t.outlook != Outlook::Unknown && planned.as_of.is_none());
            let single_operation = !is_shared && planned.single_operation;
            t.kv_is_spent = !is_shared;
            let kv = shared.kv.begin_read_only(ReadOnlyOptions { bound, single_operation });
            if !effective.hedged_reads {
                kv.set_hedging(false);
            }
            kv
        } else {
            let kv = shared.kv.begin(ReadWriteOptions { retry_of: t.retry_of });
            kv.limit_bytes(shared.server.cluster.transaction_bytes_max());
            kv
        };
        t.kv_read_only = only_reads;
        t.lock_timeout = None;
        t.kv = Some(Arc::from(kv));
        Ok(())
    }

    /// Runs one statement as a transaction of its own, again and again while it conflicts and nothing of its result has
    /// left the buffer.
    pub(crate) async fn run_autocommit(
        &mut self,
        mut statement: Simple,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let start = sink.position();
        let mut retry_of: Option<TxnId> = None;
        for attempt in 1.. {
            self.begin(false);
            if let Some(t) = &mut self.transaction {
                t.retry_of = retry_of;
            }
            self.plan_on_lease(&mut statement).await?;
            let params = statement.params.clone();
            let result = match self.run_in_transaction(&statement.plan, params, sink).await {
                Ok(Flow::Done) => self.end_implicit(sink).await.map(|()| Flow::Done),
                other => other,
            };
            let Err(e) = result else { return result };
            let can_retry = is_retry(&e)
                && self.retries_transparently()
                && attempt < ATTEMPTS_MAX
                && !self.cancel.is_cancelled();
            if !can_retry || !self.is_own_transaction(&statement.plan) || !sink.rewind(start) {
                return Err(e);
            }
            self.shared.retries.note_statement();
            statement.plan.note_retry();
            retry_of = self.attempt_id().or(retry_of);
            self.roll_back().await;
            self.locks.run_again();
            self.cancel.guard(tokio::time::sleep(self.backoff(attempt))).await?;
        }
        unreachable!("the loop returns")
    }

    /// A statement that is not itself about transactions.
    pub(crate) fn is_own_transaction(&self, plan: &CachedPlan) -> bool {
        !matches!(plan.planned.plan, StatementPlan::Session(_))
    }

    /// The id of the attempt under way.
    pub(crate) fn attempt_id(&self) -> Option<TxnId> {
        self.transaction.as_ref().and_then(|t| t.kv.as_ref()).and_then(|kv| kv.id())
    }

    /// Commits the implicit transaction, if one is open.
    pub(crate) async fn end_implicit(&mut self, sink: &mut dyn ResultSink) -> Result<(), SqlError> {
        match &self.transaction {
            Some(t) if !t.is_explicit => {
                let committed = self.commit_journaled(sink).await;
                if committed.is_err() {
                    self.take_tag_back(sink);
                }
                committed
            }
            _ => Ok(()),
        }
    }

    /// Commits. On an error the transaction is gone.
    pub(crate) async fn commit(&mut self) -> Result<(), SqlError> {
        self.commit_store().await?;
        self.locks.end_transaction().await;
        Ok(())
    }

    async fn commit_store(&mut self) -> Result<(), SqlError> {
        // The implicit transaction of a retried statement must still be known when its commit fails.
        let Some(t) = &self.transaction else { return Ok(()) };
        if let Some(kv) = t.kv.clone() {
            if t.kv_read_only {
                kv.commit().await.map_err(sql_error)?;
                self.read_timestamp = kv.read_timestamp().or(self.read_timestamp);
            } else {
                let committed = self.commit_planned(&*kv).await?;
                self.commit_timestamp = committed.or(self.commit_timestamp);
            }
        }
        self.transaction = None;
        self.close_portals(true);
        self.settings.lock().end_transaction();
        self.bump_settings();
        Ok(())
    }

    /// Undoes the open transaction, if there is one.
    pub(crate) async fn roll_back(&mut self) {
        let Some(t) = self.transaction.take() else { return };
        self.close_portals(false);
        self.copy = None;
        if let Some(kv) = t.kv {
            kv.rollback().await;
        }
        self.locks.end_transaction().await;
        let mut settings = self.settings.lock();
        settings.restore(&t.settings);
        settings.end_transaction();
        drop(settings);
        self.bump_settings();
    }

    /// The error of a statement as it may be told. It says something about rows that the statement has read, and these may be of a
    /// transaction whose own commit is not decided yet: the store knows, and where they turn out never to have been, the
    /// statement is to be run again. A block that goes on from a savepoint learns that at its COMMIT.
    pub(crate) fn confirmed(&mut self, e: SqlError) -> BoxFuture<'_, SqlError> {
        Box::pin(async move {
            if is_transient(&e) {
                return e;
            }
            let t = self.transaction.as_ref().filter(|t| t.savepoints.is_empty() && !t.kv_read_only);
            let Some(kv) = t.and_then(|t| t.kv.clone()) else { return e };
            match self.cancel.guard(kv.rollback_confirmed()).await {
                Ok(Ok(())) => e,
                Ok(Err(unconfirmed)) => sql_error(unconfirmed),
                Err(cancelled) => cancelled,
            }
        })
    }

    /// An error goes to the client.
    pub(crate) fn note_error(&self, e: &SqlError) {
        if is_retry(e) {
            self.shared.retries.note_shown();
        }
    }

    /// An error: an implicit transaction is undone, a block fails.
    pub(crate) async fn fail(&mut self) {
        self.copy = None;
        match &mut self.transaction {
            Some(t) if t.is_explicit => {
                // Nobody looks whether it would be refused again.
                if !t.is_failed && !t.journal.ends_in_failure() {
                    t.journal.lose(Lost::Refused);
                }
                t.is_failed = true;
                // Nothing can bring the block back without a savepoint, so its locks need not wait for ROLLBACK.
                let is_over = t.savepoints.is_empty();
                let kv = if is_over { t.kv.take() } else { None };
                self.close_portals(false);
                if let Some(kv) = kv {
                    kv.rollback().await;
                }
                if is_over {
                    self.locks.end_transaction().await;
                }
            }
            Some(_) => self.roll_back().await,
            None => {}
        }
    }

    /// Refuses what a failed block does not allow.
    pub(crate) fn check_failed(&self, planned: &PlannedStatement) -> Result<(), SqlError> {
        let failed = self.transaction.as_ref().is_some_and(|t| t.is_failed);
        if failed && !Session::ends_failure(planned) { Err(in_failed_transaction()) } else { Ok(()) }
    }

    /// Plans made under other settings are not found any more.
    pub(crate) fn bump_settings(&mut self) {
        self.settings_generation = self.settings.lock().generation();
    }
}

/// 25006.
#[cold]
pub(crate) fn read_only_violation(command: &str) -> SqlError {
    let message = format!("cannot execute {command} in a read-only transaction");
    SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message)
}
