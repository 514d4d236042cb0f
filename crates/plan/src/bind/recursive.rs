//! `WITH RECURSIVE`: a query that is defined by a UNION with itself.
//!
//! PostgreSQL's rules are kept, also where a broader definition would have a meaning here: the step mentions the query
//! once, in FROM, not where an outer join or an aggregate would have to see all of its rows.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::ast::{self, SetExpr, SetOperator, SetQuantifier};

use super::query::{OutCol, count_relations, cte_columns, set_expr_position};
use super::scope::{CteEntry, CteSource, Scope};
use super::types::{common_type, needs_equality};
use super::{At, Binder, BoundQuery, pos};
use crate::logical::{LogicalRecursive, Rel};
use crate::physical::{JoinKind, SetOpKind};

/// `42P19` for a reference in the wrong place.
pub(super) fn within(name: &str, place: &str) -> SqlError {
    let message = format!("recursive reference to query \"{name}\" must not appear within {place}");
    SqlError::new(SqlState::INVALID_RECURSION, message)
}

/// Whether a tree reads the rows of a step: of this recursive query, or of any.
pub(super) fn reads_work(rel: &Rel, of: Option<usize>) -> bool {
    if let Rel::Work { index, .. } = rel {
        return of.is_none_or(|i| i == *index);
    }
    let mut found = false;
    // A recursive query inside reads its own rows, which concerns nobody else.
    rel.for_each_input(&mut |r| found = found || reads_work(r, of));
    match rel {
        Rel::Recursive(inner) if of.is_none() => {
            found && (reads_other(&inner.base, inner.index) || reads_other(&inner.step, inner.index))
        }
        _ => found,
    }
}

/// Whether a tree reads the rows of another recursive query's step than this one's.
fn reads_other(rel: &Rel, own: usize) -> bool {
    if let Rel::Work { index, .. } = rel {
        return *index != own;
    }
    let mut found = false;
    rel.for_each_input(&mut |r| found = found || reads_other(r, own));
    found
}

impl Binder<'_> {
    /// Binds a common table expression that mentions itself.
    pub(super) fn recursive_query(
        &mut self,
        cte: &ast::Cte,
        name: &str,
        scope: &Scope<'_>,
    ) -> Result<BoundQuery> {
        let at = pos(cte.alias.name.span);
        let q = &*cte.query;
        let invalid = |message: String| SqlError::new(SqlState::INVALID_RECURSION, message).at(at);
        let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } = &*q.body else {
            return Err(invalid(format!(
                "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
            )));
        };
        refuse_clauses(q).map_err(|e| e.or_position(at))?;
        if count_relations(left).contains_key(name) {
            return Err(within(name, "its non-recursive term").at(at));
        }
        if count_relations(right).get(name).is_some_and(|n| *n > 1) {
            let message = format!("recursive reference to query \"{name}\" must not appear more than once");
            return Err(invalid(message));
        }
        let mut scope = Scope::child(scope);
        if let Some(with) = &q.with {
            self.with(with, &mut scope, q)?;
        }
        self.target_types = None;
        self.keeps_untyped = false;
        let base = self.set_expr(left, &scope)?;
        let columns = cte_columns(name, &base, cte)?;
        let index = self.recursions;
        self.recursions += 1;
        let source = CteSource::Work { index, depth: self.subquery_depth };
        scope.ctes.insert(name.to_owned(), CteEntry { columns: columns.clone(), source });
        self.keeps_untyped = true;
        let mut step = self.set_expr(right, &scope)?;
        self.keeps_untyped = false;
        check_places(&step.rel, index, name).map_err(|e| e.or_position(at))?;
        let step_at = set_expr_position(right);
        if base.columns.len() != step.columns.len() {
            let message = "each UNION query must have the same number of columns";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(step_at));
        }
        for (i, (b, s)) in base.columns.iter().zip(&step.columns).enumerate() {
            let overall = common_type("UNION", &[b.ty.clone(), s.own_type()]).at(step_at)?;
            if !overall.same_type(&b.ty) {
                let message = format!(
                    "recursive query \"{name}\" column {} has type {} in non-recursive term but type {overall} overall",
                    i + 1,
                    b.ty
                );
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                    .with_hint("Cast the output of the non-recursive term to the correct type.")
                    .at(base_position(left, i)));
            }
        }
        let types: Vec<_> = base.columns.iter().map(|c| c.ty.clone()).collect();
        let all = matches!(set_quantifier, SetQuantifier::All);
        if !all {
            types.iter().enumerate().try_for_each(|(i, t)| needs_equality(t, base_position(left, i)))?;
        }
        let step_cols = self.convert(&mut step, &types, step_at)?;
        let cols = self.new_cols(types.len());
        let out = base.columns.iter().zip(&cols).zip(&types);
        let out = out.map(|((c, id), ty)| OutCol::typed(c.name.clone(), *id, ty.clone(), (0, 0))).collect();
        let recursive = LogicalRecursive {
            index,
            all,
            base_cols: base.columns.iter().map(|c| c.col).collect(),
            base: base.rel,
            step: step.rel,
            step_cols,
            cols,
            types,
        };
        Ok(BoundQuery { rel: Rel::Recursive(Box::new(recursive)), columns: out })
    }
}

/// Clauses around the UNION, which PostgreSQL does not have either.
fn refuse_clauses(q: &ast::Query) -> Result<()> {
    let what = if q.order_by.is_some() {
        "ORDER BY"
    } else if q.limit_clause.is_some() || q.fetch.is_some() {
        "LIMIT"
    } else if !q.locks.is_empty() {
        "FOR UPDATE/SHARE"
    } else {
        return Ok(());
    };
    let message = format!("{what} in a recursive query is not implemented");
    Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
}

/// Refuses a reference to the query where all of its rows would have to be known.
fn check_places(rel: &Rel, index: usize, name: &str) -> Result<()> {
    let reads = |r: &Rel| reads_work(r, Some(index));
    match rel {
        Rel::Join { kind, left, right, .. } => {
            let nullable = match kind {
                JoinKind::Left => reads(right),
                JoinKind::Right => reads(left),
                JoinKind::Full => reads(left) || reads(right),
                _ => false,
            };
            if nullable {
                return Err(within(name, "an outer join"));
            }
        }
        Rel::SetOp(s) => match s.kind {
            SetOpKind::Except if reads(&s.right) => return Err(within(name, "EXCEPT")),
            SetOpKind::Intersect if reads(&s.left) || reads(&s.right) => {
                return Err(within(name, "INTERSECT"));
            }
            _ => {}
        },
        Rel::Aggregate(a) if !a.aggs.is_empty() && reads(&a.input) => {
            let message = "aggregate functions are not allowed in a recursive query's recursive term";
            return Err(SqlError::new(SqlState::INVALID_RECURSION, message));
        }
        _ => {}
    }
    let mut outcome = Ok(());
    rel.for_each_input(&mut |r| {
        if outcome.is_ok() {
            outcome = check_places(r, index, name);
        }
    });
    outcome
}

/// Where a column of the first query of a term stands.
fn base_position(term: &SetExpr, column: usize) -> u32 {
    match term {
        SetExpr::Select(s) => {
            let item = s.projection.get(column).map(|p| ast::Spanned::span(p).start.column as u32);
            item.unwrap_or_else(|| set_expr_position(term))
        }
        SetExpr::SetOperation { left, .. } => base_position(left, column),
        _ => set_expr_position(term),
    }
}
