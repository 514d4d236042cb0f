//! From a change of descriptors to a version of the catalog in force (docs/decisions/0014).
//!
//! ```text
//!   nothing conflicts (new tables):  commit -> published
//!   otherwise:   announce T -> every node bounds its commits by T -> commit below T -> published -> T has passed
//! ```
//! `T` lies a little ahead, so that all of it is done when it comes and nobody waits. What comes too late has no effect:
//! the commit is refused, the announcement lapses, and the next attempt takes more time. A change whose commit was lost
//! from sight is looked for in the catalog's past: it is there at `T - 1`, or it will never be.

use meridian_catalog::{CatalogChange, CatalogError, CatalogSnapshot, CatalogStore, JobState};
use meridian_datum::{Result, SqlError, SqlState};
use meridian_kv_api::{KvError, KvTxn, ReadBound, ReadOnlyOptions, ReadWriteOptions, RetryReason};
use meridian_types::{Duration, Timestamp};

use super::{ATTEMPTS_MAX, DdlServices, catalog_error};
use crate::kv_error::{is_retry, sql_error};

/// How far ahead an activation is announced at least for a transaction block, whose own commit has to happen before it.
const AHEAD_OF_BLOCK: Duration = Duration::from_millis(150);
/// How fast at least a block's writes are replicated: a fifth of what a machine of two cores does for three nodes. A block for
/// which it does not hold gets 40001.
const BLOCK_BYTES_PER_MILLISECOND: u64 = 4_000;
/// How far ahead where a node does not answer, and its schema lease (3 s) has to run out.
const AHEAD_OF_LEASE: Duration = Duration::from_millis(3_600);
/// No activation is announced further ahead than this.
const AHEAD_MAX: Duration = Duration::from_secs(10);

/// Whether a plan that was made before the change could go wrong after it.
pub(super) fn concerns_plans(change: &CatalogChange, before: &CatalogSnapshot) -> bool {
    match change {
        CatalogChange::CreateDatabase(_)
        | CatalogChange::CreateSchema(_)
        | CatalogChange::SetStatistics(..)
        | CatalogChange::SetJob(_)
        | CatalogChange::RemoveTable(_) => false,
        // A parent's rows must not be deleted past the children.
        CatalogChange::CreateTable(table) => table.interleave.is_some(),
        CatalogChange::ReplaceTable(table) => before.table(table.id).is_some(),
        CatalogChange::ReplaceDatabase(_)
        | CatalogChange::DropDatabase(_)
        | CatalogChange::ReplaceSchema(_)
        | CatalogChange::DropSchema(_) => true,
    }
}

fn kv_cause(error: &CatalogError) -> Option<&KvError> {
    match error {
        CatalogError::Kv(error) => Some(error),
        _ => None,
    }
}

impl DdlServices {
    /// Changes descriptors in a transaction of their own. Returns when the change is in force on every node, with the
    /// time since when.
    pub(super) async fn change(&self, changes: Vec<CatalogChange>) -> Result<Timestamp> {
        let before = self.catalog.acquire().await.map_err(sql_error)?.snapshot().clone();
        let changes = self.with_statement_job(changes)?;
        let at = if changes.iter().any(|c| concerns_plans(c, &before)) {
            self.change_at(changes).await?
        } else {
            if let Some(at) = self.activate_at {
                self.wait_until(at).await?;
            }
            self.change_at_commit(changes).await?
        };
        if let Some(job) = &self.statement_job {
            *job.lock() = None;
        }
        Ok(at)
    }

    /// Where the change is a job's statement, the job ends with it, unless it has become a job with more to do.
    fn with_statement_job(&self, mut changes: Vec<CatalogChange>) -> Result<Vec<CatalogChange>> {
        if let Some(job) = self.statement_job.as_ref().and_then(|job| job.lock().clone()) {
            let goes_on = |c: &CatalogChange| matches!(c, CatalogChange::SetJob(j) if j.id == job.id);
            if !changes.iter().any(goes_on) {
                let ended = job.ended(self.timestamp()?, None);
                changes.push(CatalogChange::SetJob(Box::new(ended)));
            }
        }
        Ok(changes)
    }

    async fn change_at_commit(&self, changes: Vec<CatalogChange>) -> Result<Timestamp> {
        let mut retry_of = None;
        for attempt in 1.. {
            self.cancel.check()?;
            let txn = self.kv.begin(ReadWriteOptions { retry_of });
            let outcome = async {
                let version = CatalogStore::apply(&*txn, changes.clone()).await.map_err(catalog_error)?;
                let at = txn.commit().await.map_err(sql_error)?;
                Ok::<_, SqlError>((version, at.unwrap_or(Timestamp::ZERO)))
            };
            match outcome.await {
                Ok((version, at)) => {
                    self.publish(version).await?;
                    return Ok(at);
                }
                Err(e) if is_retry(&e) && attempt < ATTEMPTS_MAX => {
                    retry_of = txn.id();
                    txn.rollback().await;
                }
                Err(e) => {
                    txn.rollback().await;
                    return Err(e);
                }
            }
        }
        unreachable!("the loop returns")
    }

    async fn change_at(&self, changes: Vec<CatalogChange>) -> Result<Timestamp> {
        let mut ahead = self.pace.ahead();
        for _ in 0..ATTEMPTS_MAX {
            let at = self.fence(&mut ahead).await?;
            if let Some(version) = self.commit_below(at, &changes).await? {
                let committed = self.kv.now().map_err(sql_error)?.latest();
                // Neither waiting for a time of the user's choice nor for a silent node's lease tells what is needed.
                if self.activate_at != Some(at) && ahead < AHEAD_OF_LEASE {
                    self.pace.note_needed(ahead.saturating_sub(at.since(committed)));
                }
                self.in_force(version, at).await?;
                return Ok(at);
            }
            ahead = (ahead + ahead).min(AHEAD_MAX);
        }
        Err(too_busy())
    }

    /// How long before its activation a block's commit begins: schema leases and those of shard leaders reach that far, and
    /// what the commit writes is not prepared for longer than it has to be.
    pub(super) fn block_needs(&self) -> Duration {
        self.pace.ahead().max(AHEAD_OF_BLOCK)
    }

    /// Announces the activation of what a transaction block has changed, far enough ahead for what it has written to be sent
    /// to the shards before its commit begins.
    pub(super) async fn fence_block(&self, bytes: usize) -> Result<Timestamp> {
        let sending = Duration::from_millis(bytes as u64 / BLOCK_BYTES_PER_MILLISECOND);
        self.fence(&mut (self.block_needs() + sending)).await
    }

    /// Announces an activation `ahead` of now, and more where that is too short. When it returns, every node has bounded
    /// its commits by the activation, or has lost its lease before it, and the activation is still to come.
    async fn fence(&self, ahead: &mut Duration) -> Result<Timestamp> {
        let nodes = self.cluster.nodes().await.map_err(sql_error)?;
        let silent: Vec<String> =
            nodes.iter().filter(|n| !n.is_live).map(|n| n.node.get().to_string()).collect();
        if !silent.is_empty() {
            *ahead = (*ahead).max(AHEAD_OF_LEASE);
            let (nodes, lease) = (silent.join(", "), std::time::Duration::from(AHEAD_OF_LEASE));
            self.note(format!(
                "node {nodes} does not answer: the change takes effect when its schema lease is over, in {lease:?}"
            ));
        }
        for _ in 0..ATTEMPTS_MAX {
            self.cancel.check()?;
            let now = self.kv.now().map_err(sql_error)?;
            let soonest = now.latest() + *ahead;
            let at = self.activate_at.filter(|at| *at > soonest).unwrap_or(soonest);
            match self.announce(at, now.earliest()).await {
                Ok(()) => {}
                Err(CatalogError::Fenced { until }) => {
                    self.wait_until(until).await?;
                    continue;
                }
                Err(error)
                    if matches!(kv_cause(&error), Some(KvError::Retry { .. } | KvError::Ambiguous)) =>
                {
                    continue;
                }
                Err(error) => return Err(catalog_error(error)),
            }
            // Whatever version the change makes is above this one, so every node looks.
            self.publish(u64::MAX).await?;
            if self.kv.now().map_err(sql_error)?.latest() < at {
                return Ok(at);
            }
            *ahead = (*ahead + *ahead).min(AHEAD_MAX);
        }
        Err(too_busy())
    }

    async fn announce(&self, at: Timestamp, now: Timestamp) -> std::result::Result<(), CatalogError> {
        let txn = self.kv.begin(ReadWriteOptions::default());
        let outcome = async {
            CatalogStore::announce(&*txn, at, now).await?;
            txn.commit().await?;
            Ok(())
        };
        let outcome = outcome.await;
        if outcome.is_err() {
            txn.rollback().await;
        }
        outcome
    }

    /// Commits the change below its activation. `None` when it came too late.
    async fn commit_below(&self, at: Timestamp, changes: &[CatalogChange]) -> Result<Option<u64>> {
        let mut retry_of = None;
        loop {
            let txn = self.kv.begin(ReadWriteOptions { retry_of });
            let outcome = async {
                let changes = changes.iter().cloned().map(|change| valid_from(change, at));
                let version = CatalogStore::apply(&*txn, changes).await?;
                self.stamp(&*txn, at).await?;
                txn.commit().await?;
                Ok::<u64, CatalogError>(version)
            };
            let error = match outcome.await {
                Ok(version) => return Ok(Some(version)),
                Err(error) => error,
            };
            match kv_cause(&error) {
                Some(KvError::Retry { reason }) => {
                    retry_of = txn.id();
                    txn.rollback().await;
                    let is_late = self.kv.now().map_err(sql_error)?.latest() >= at;
                    if is_late || *reason == RetryReason::NoTimestamp {
                        return Ok(None);
                    }
                }
                Some(KvError::Ambiguous) => return self.find_change(at).await,
                _ => {
                    txn.rollback().await;
                    if matches!(error, CatalogError::Fenced { .. }) {
                        return Ok(None);
                    }
                    return Err(catalog_error(error));
                }
            }
        }
    }

    /// Makes what a transaction has changed in the catalog take effect at an announced time, which it must commit below.
    pub(super) async fn stamp(
        &self,
        txn: &dyn KvTxn,
        at: Timestamp,
    ) -> std::result::Result<(), CatalogError> {
        let before = self.kv.now()?.earliest();
        CatalogStore::activate_at(txn, at, before).await?;
        txn.limit_commit_timestamp(at.prev());
        Ok(())
    }

    /// The version that takes effect at `at`, if its commit has happened.
    async fn find_change(&self, at: Timestamp) -> Result<Option<u64>> {
        self.wait_until(at).await?;
        let options = ReadOnlyOptions { bound: ReadBound::At(at.prev()), single_operation: false };
        let txn = self.kv.begin_read_only(options);
        let stored = CatalogStore::version(&*txn).await.map_err(catalog_error)?;
        Ok((stored.valid_from == at).then_some(stored.version))
    }

    /// Makes a version known to all nodes, and returns once it has taken effect.
    pub(super) async fn in_force(&self, version: u64, at: Timestamp) -> Result<()> {
        // The statement may be cancelled, the change can't be any more.
        self.cluster.publish_catalog(version).await.map_err(sql_error)?;
        self.catalog.publish(version).await.map_err(catalog_error)?;
        self.wait_until(at).await
    }

    pub(super) async fn wait_until(&self, at: Timestamp) -> Result<()> {
        loop {
            let now = self.kv.now().map_err(sql_error)?.earliest();
            if now > at {
                return Ok(());
            }
            tokio::time::sleep((at.since(now) + Duration::from_nanos(1_000)).into()).await;
        }
    }
}

/// A change as it takes effect at `at`. A job that begins with it has its runner's lease from then on: what came before may
/// have taken longer than a lease, and nobody shall take the job for abandoned when it is first seen.
fn valid_from(mut change: CatalogChange, at: Timestamp) -> CatalogChange {
    match &mut change {
        CatalogChange::CreateTable(table) | CatalogChange::ReplaceTable(table) => table.valid_from = at,
        CatalogChange::SetJob(job) if job.state == JobState::Running => {
            job.lease_end = job.lease_end.max(at + super::jobs::LEASE);
        }
        _ => {}
    }
    change
}

#[cold]
fn too_busy() -> SqlError {
    SqlError::new(
        SqlState::SERIALIZATION_FAILURE,
        "the schema change could not be committed before the time announced for it",
    )
}
