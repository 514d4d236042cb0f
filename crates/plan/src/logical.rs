//! Logical plans.

use meridian_datum::DataType;

use crate::expr::Expr;

/// A subquery that is not planned yet.
#[derive(Clone, Debug)]
pub struct Unplanned {
    pub(crate) left: Vec<Expr>,
    pub(crate) ty: DataType,
}
