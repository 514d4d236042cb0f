//! The catalog as a transaction of the session holds it.
//!
//! ```text
//!   reads and writes of now   the leased version; its limit bounds what is read and committed
//!   a block's own changes     a private version
//!   reads of the past         the version of that moment
//! ```
//! A block outlives versions: where a change does not touch what the block has used, its later statements are planned on
//! the new version. Otherwise its commit is refused, and what can be run again is.

use std::sync::Arc;

use meridian_catalog::{CatalogGuard, CatalogSnapshot, TableId};
use meridian_datum::SqlError;
use meridian_exec::ddl::outdated_plan;
use meridian_exec::{is_ambiguous, sql_error};
use meridian_kv_api::{KvTxn, ReadBound};
use meridian_plan::ParsedStatement;
use meridian_plan::planned::AsOf;
use meridian_types::{Duration, Timestamp};
use smallvec::SmallVec;

use crate::session::Session;

/// What the statements of one transaction are planned on.
pub(crate) struct Lease {
    guard: CatalogGuard,
    /// The catalog with the transaction's own changes.
    private: Option<Arc<CatalogSnapshot>>,
    /// The tables that the transaction has used.
    used: SmallVec<[TableId; 4]>,
}

/// A moment of the past with its catalog.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) at: Timestamp,
    catalog: Arc<CatalogSnapshot>,
}

impl Lease {
    pub(crate) fn new(guard: CatalogGuard) -> Self {
        Lease { guard, private: None, used: SmallVec::new() }
    }

    /// The catalog.
    pub(crate) fn snapshot(&self) -> &Arc<CatalogSnapshot> {
        self.private.as_ref().unwrap_or_else(|| self.guard.snapshot())
    }

    /// The catalog as it was before the transaction changed it.
    pub(crate) fn committed(&self) -> &Arc<CatalogSnapshot> {
        self.guard.snapshot()
    }

    pub(crate) fn guard(&self) -> &CatalogGuard {
        &self.guard
    }

    /// The catalog with what the transaction has changed, if it has.
    pub(crate) fn private(&self) -> Option<&Arc<CatalogSnapshot>> {
        self.private.as_ref()
    }

    /// The transaction has changed the catalog, or has gone back to a savepoint.
    pub(crate) fn set_private(&mut self, snapshot: Option<Arc<CatalogSnapshot>>) {
        self.private = snapshot;
    }

    /// A statement on these tables runs in the transaction.
    pub(crate) fn note_used(&mut self, tables: &[(TableId, u64)]) {
        for (id, _) in tables {
            if !self.used.contains(id) {
                self.used.push(*id);
            }
        }
    }
}

impl Session {
    /// Holds the catalog for the open transaction, or a newer one for its next statement.
    pub(crate) async fn lease(&mut self) -> Result<(), SqlError> {
        let Some(t) = &mut self.transaction else { return Ok(()) };
        if t.is_failed {
            return Ok(());
        }
        let catalog = &self.shared.catalog;
        if let Some(lease) = &mut t.lease {
            if lease.private.is_none()
                && catalog.version() != lease.guard.snapshot().version()
                && let Some(newer) = catalog.advance(&lease.guard, &lease.used)
            {
                lease.guard = newer;
            }
            return Ok(());
        }
        let guard = match catalog.try_acquire() {
            Ok(Some(guard)) => guard,
            _ => self.cancel.guard(Box::pin(catalog.acquire())).await?.map_err(sql_error)?,
        };
        t.lease = Some(Lease::new(guard));
        Ok(())
    }

    /// Makes the catalog of its moment ready for a statement that reads the past.
    pub(crate) async fn look_back(&mut self, parsed: &ParsedStatement) -> Result<(), SqlError> {
        let begun = self.transaction.as_ref().filter(|t| t.kv.is_some() && !t.kv_is_spent);
        if let (Some(t), Some(past)) = (begun, &self.past) {
            // The transaction reads at one moment, which its first statement has chosen.
            if t.kv_read_only
                && t.kv.as_ref().is_some_and(|kv| kv.read_timestamp().is_none_or(|r| r == past.at))
            {
                return Ok(());
            }
        }
        self.past = None;
        let of_block = self.transaction.as_ref().and_then(|t| t.modes.as_of);
        let said = if parsed.has_as_of() { parsed.as_of(&self.eval_context())? } else { None };
        let moment = match said.or(of_block) {
            Some(AsOf::At(at)) => at,
            Some(AsOf::Ago(nanos)) => {
                let now = self.shared.kv.now().map_err(sql_error)?;
                now.earliest().saturating_sub(Duration::from_nanos(nanos))
            }
            None => match self.stale_moment(parsed)? {
                Some(at) => at,
                None => return Ok(()),
            },
        };
        let catalog = self.cancel.guard(Box::pin(self.shared.catalog.at(moment))).await?;
        let catalog = catalog.map_err(|e| e.into_sql(sql_error))?;
        self.past = Some(Past { at: moment, catalog });
        Ok(())
    }

    /// The moment that the session's staleness names, for a query of a transaction that only reads.
    fn stale_moment(&self, parsed: &ParsedStatement) -> Result<Option<Timestamp>, SqlError> {
        let staleness = self.settings.lock().effective().staleness;
        let may_write = self.transaction.as_ref().is_some_and(|t| t.may_write() && !t.modes.read_only);
        if staleness == Default::default() || may_write || !parsed.is_query() {
            return Ok(None);
        }
        let now = self.shared.kv.now().map_err(sql_error)?;
        Ok(match staleness.bound(now) {
            ReadBound::At(at) => Some(at),
            ReadBound::Strong | ReadBound::AtLeast(_) => None,
        })
    }

    /// The catalog that a statement is planned on at this moment. Outside a transaction it may be a little old; what
    /// runs is planned on what its transaction has leased.
    pub(crate) fn snapshot(&self) -> Arc<CatalogSnapshot> {
        if let Some(past) = &self.past {
            return past.catalog.clone();
        }
        match self.transaction.as_ref().and_then(|t| t.lease.as_ref()) {
            Some(lease) => lease.snapshot().clone(),
            None => self.shared.catalog.latest(),
        }
    }

    /// Refuses rows that were read at a timestamp for which they were not planned. Nothing of them has been sent.
    pub(crate) fn check_read(&self) -> Result<(), SqlError> {
        let Some(t) = self.transaction.as_ref().filter(|t| t.kv_read_only && self.past.is_none()) else {
            return Ok(());
        };
        let (Some(lease), Some(at)) = (&t.lease, t.kv.as_ref().and_then(|kv| kv.read_timestamp())) else {
            return Ok(());
        };
        if at <= lease.guard.limit() || self.shared.catalog.advance(&lease.guard, &lease.used).is_some() {
            return Ok(());
        }
        Err(outdated_plan())
    }

    /// Commits the store's read-write transaction within the bounds of what it was planned on.
    pub(crate) async fn commit_planned(&mut self, kv: &dyn KvTxn) -> Result<Option<Timestamp>, SqlError> {
        // Nothing takes effect under a lock that somebody else may have by then.
        if let Some(until) = self.locks.bound()? {
            kv.limit_commit_timestamp(until);
        }
        let t = self.transaction.as_ref().expect("the transaction is open");
        let Some(lease) = &t.lease else { return self.cancel.commit(kv).await };
        if let Some(change) = t.changed_catalog {
            let services = self.ddl_services();
            return Box::pin(services.commit_block(kv, change, &lease.guard, &lease.used)).await;
        }
        // What takes long comes before the permit, which lasts no longer than the schema lease.
        self.cancel.guard(kv.send_ahead()).await?.map_err(sql_error)?;
        let permit = self.cancel.guard(self.shared.catalog.commit_permit(&lease.guard, &lease.used)).await?;
        let permit = permit.map_err(sql_error)?.ok_or_else(outdated_plan)?;
        kv.limit_commit_timestamp(permit.limit());
        let committed = self.cancel.commit_unless(kv, permit.unwanted()).await;
        if !is_ambiguous(&committed) {
            permit.end();
        }
        committed
    }
}
