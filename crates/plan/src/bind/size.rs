//! What a statement may grow to beyond its text.
//!
//! A common table expression that is put in place of each of its mentions doubles the plan with every level that mentions
//! it twice, so a text of a kilobyte could ask for a plan of a terabyte. And the items of FROM are a list in the text but a
//! left-deep tree in the plan, whose best order takes the cube of their number to find.

use meridian_datum::Result;

use crate::logical::Rel;
use crate::parse::too_complex;

/// Joins and items of FROM in a statement, with those of the queries put in place of names.
const JOINS_MAX: usize = 500;

/// Operators of one query that is put in place of its name: they may all stand above each other.
const QUERY_OPERATORS_MAX: usize = 4_000;

/// Operators of all such queries.
const OPERATORS_MAX: usize = 1_000_000;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Size {
    joins: usize,
    operators: usize,
}

impl Size {
    /// One more join.
    pub(super) fn join(&mut self) -> Result<()> {
        self.joins += 1;
        if self.joins > JOINS_MAX { Err(too_complex()) } else { Ok(()) }
    }

    /// A query is put in place of its name.
    pub(super) fn inline(&mut self, rel: &Rel) -> Result<()> {
        let mut operators = 0;
        let mut joins = 0;
        count(rel, &mut operators, &mut joins);
        self.joins += joins;
        self.operators += operators;
        let fits =
            operators <= QUERY_OPERATORS_MAX && self.operators <= OPERATORS_MAX && self.joins <= JOINS_MAX;
        if fits { Ok(()) } else { Err(too_complex()) }
    }
}

fn count(rel: &Rel, operators: &mut usize, joins: &mut usize) {
    *operators += 1;
    *joins += usize::from(matches!(rel, Rel::Join { .. }));
    rel.for_each_input(&mut |input| count(input, operators, joins));
    rel.for_each_own_expr(&mut |e| count_in(e, operators, joins));
}

/// Subqueries are operators too.
fn count_in(e: &crate::Expr, operators: &mut usize, joins: &mut usize) {
    if let crate::Expr::Unplanned(u) = e {
        count(&u.rel, operators, joins);
    }
    e.for_each_child(&mut |c| count_in(c, operators, joins));
}
