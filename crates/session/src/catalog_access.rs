//! The catalog as a transaction of the session holds it.

use std::sync::Arc;

use meridian_catalog::{CatalogGuard, CatalogSnapshot};
use meridian_types::Timestamp;

/// What the statements of one transaction are planned on.
///
/// While it lives, a schema change waits for the transaction, until the schema lease runs out; the transaction therefore
/// commits no later than [`Lease::commit_limit`].
pub(crate) struct Lease {
    guard: CatalogGuard,
    /// The catalog with the transaction's own changes.
    private: Option<Arc<CatalogSnapshot>>,
}

impl Lease {
    pub(crate) fn new(guard: CatalogGuard) -> Self {
        Lease { guard, private: None }
    }

    /// The catalog.
    pub(crate) fn snapshot(&self) -> &Arc<CatalogSnapshot> {
        self.private.as_ref().unwrap_or_else(|| self.guard.snapshot())
    }

    /// The catalog as it was before the transaction changed it.
    pub(crate) fn committed(&self) -> &Arc<CatalogSnapshot> {
        self.guard.snapshot()
    }

    /// The transaction has changed the catalog.
    pub(crate) fn set_private(&mut self, snapshot: Arc<CatalogSnapshot>) {
        self.private = Some(snapshot);
    }

    /// The latest moment at which the transaction may commit.
    pub(crate) fn commit_limit(&self) -> Timestamp {
        self.guard.commit_limit()
    }
}
