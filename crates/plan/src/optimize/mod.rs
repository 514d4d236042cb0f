//! Rewriting of logical plans.
//!
//! One recursive pass ([`push_down`]) carries conditions towards the tables, turns outer joins into inner ones where a
//! condition rejects the rows that make the difference, turns EXISTS and IN into semi and anti joins ([`unnest`]), and
//! orders inner joins ([`join_order`]). Which index is read and how two inputs are joined is decided by
//! [`crate::lower`], which knows what the rewritten plan asks of every table.
//!
//! Every rewriting keeps results and errors but for this: conditions are evaluated in another order than written, which
//! SQL allows.

pub(crate) mod estimate;
mod hoist;
mod join_order;
mod push_down;
mod unnest;

use meridian_catalog::CatalogSnapshot;

use crate::logical::Rel;

pub(crate) use estimate::{Estimator, recursive_rows, selectivity, strip_relabel};

/// Rewrites a plan.
pub(crate) fn optimize(rel: Rel, snapshot: &CatalogSnapshot) -> Rel {
    let estimator = Estimator { snapshot };
    push_down::push_down(rel, Vec::new(), &estimator)
}
