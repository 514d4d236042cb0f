//! ORDER BY, LIMIT and row locks.

use meridian_datum::{CastContext, Datum, Result, SqlError, SqlState};
use meridian_kv_api::{LockWait, Locking, ReadLock};
use sqlparser::ast::{self, LockType, NonBlock};

use super::expr::{Clause, Cx, position};
use super::scope::Scope;
use super::{At, Binder, COUNT, names_of, position_of};
use crate::expr::Expr;
use crate::logical::{ColSet, Rel};

/// Descending, and NULLs first; their default follows the direction.
pub(super) fn direction(options: &ast::OrderByOptions) -> (bool, bool) {
    let descending = matches!(options.sort, Some(ast::OrderBySort::Desc));
    (descending, options.nulls_first.unwrap_or(descending))
}

/// The keys of an ORDER BY clause.
pub(super) fn order_keys(order: Option<&ast::OrderBy>) -> Result<&[ast::OrderByExpr]> {
    let Some(order) = order else { return Ok(&[]) };
    if order.interpolate.is_some() {
        return Err(SqlError::unsupported("INTERPOLATE"));
    }
    match &order.kind {
        ast::OrderByKind::Expressions(keys) => {
            for k in keys {
                if let Some(ast::OrderBySort::Using(op)) = &k.options.sort {
                    return Err(SqlError::unsupported(format!("ORDER BY USING {op}")));
                }
            }
            Ok(keys)
        }
        ast::OrderByKind::All(_) => Err(SqlError::unsupported("ORDER BY ALL")),
    }
}

/// `ORDER BY 2`: the ordinal, if the expression is an integer constant. Other constants are an error.
pub(super) fn ordinal(e: &ast::Expr, clause: &str, columns: usize) -> Result<Option<usize>> {
    let ast::Expr::Value(v) = e else { return Ok(None) };
    match &v.value {
        ast::Value::Number(n, _) => {
            let Ok(i) = n.parse::<usize>() else {
                let message = format!("non-integer constant in {clause}");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(super::pos(v.span)));
            };
            if i == 0 || i > columns {
                let message = format!("{clause} position {i} is not in select list");
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(super::pos(v.span)));
            }
            Ok(Some(i - 1))
        }
        ast::Value::Placeholder(_) | ast::Value::Null | ast::Value::Boolean(_) => Ok(None),
        _ => {
            let message = format!("non-integer constant in {clause}");
            Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(super::pos(v.span)))
        }
    }
}

impl Binder<'_> {
    /// LIMIT, OFFSET and FETCH around a relation.
    pub(super) fn limit(&mut self, rel: Rel, q: &ast::Query) -> Result<Rel> {
        let (mut limit, mut offset) = (None, None);
        match &q.limit_clause {
            None => {}
            Some(ast::LimitClause::LimitOffset { limit: l, offset: o, limit_by }) => {
                if !limit_by.is_empty() {
                    return Err(SqlError::unsupported("LIMIT BY"));
                }
                limit = l.as_ref();
                offset = o.as_ref().map(|o| &o.value);
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "LIMIT #,# syntax is not supported")
                    .with_hint("Use separate LIMIT and OFFSET clauses."));
            }
        }
        let one;
        if let Some(f) = &q.fetch {
            if f.with_ties {
                return Err(SqlError::unsupported("FETCH FIRST WITH TIES"));
            }
            if f.percent {
                return Err(SqlError::unsupported("FETCH FIRST PERCENT"));
            }
            limit = match &f.quantity {
                Some(n) => Some(n),
                None => {
                    one = ast::Expr::Value(ast::Value::Number("1".into(), false).into());
                    Some(&one)
                }
            };
        }
        let limit = limit.map(|e| self.count(e, Clause::Limit)).transpose()?.filter(|e| !is_null(e));
        let offset = offset.map(|e| self.count(e, Clause::Offset)).transpose()?.filter(|e| !is_null(e));
        if limit.is_none() && offset.is_none() {
            return Ok(rel);
        }
        Ok(Rel::Limit { input: Box::new(rel), limit, offset })
    }

    fn count(&mut self, e: &ast::Expr, clause: Clause) -> Result<Expr> {
        // LIMIT ALL
        if let ast::Expr::Identifier(i) = e
            && i.quote_style.is_none()
            && i.value.eq_ignore_ascii_case("all")
        {
            return Ok(Expr::null(COUNT));
        }
        let scope = Scope::default();
        let bound = self.expr(e, &mut Cx::new(&scope, clause))?;
        let from = bound.ty();
        let at = position(e);
        let count = self.coerce(bound, &COUNT, CastContext::Assignment, at).map_err(|err| {
            if err.state == SqlState::CANNOT_COERCE {
                let message = format!("argument of {} must be type bigint, not type {from}", clause.name());
                SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(at)
            } else {
                err
            }
        })?;
        if let Expr::Const(Datum::Int(n), _) = &count
            && *n < 0
        {
            return Err(match clause {
                Clause::Limit => {
                    SqlError::new(SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE, "LIMIT must not be negative")
                }
                _ => {
                    let state = SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE;
                    SqlError::new(state, "OFFSET must not be negative")
                }
            });
        }
        Ok(count)
    }

    /// `FOR UPDATE`, `FOR SHARE`: the tables of the FROM clause read with locks.
    pub(super) fn lock_rows(
        &mut self,
        rel: &mut Rel,
        locks: &[ast::LockClause],
        scope: &Scope<'_>,
    ) -> Result<()> {
        for l in locks {
            let lock = match l.lock_type {
                LockType::Update => ReadLock::Exclusive,
                LockType::Share => ReadLock::Shared,
            };
            let wait = match l.nonblock {
                None => LockWait::Wait,
                Some(NonBlock::Nowait) => LockWait::NoWait,
                Some(NonBlock::SkipLocked) => LockWait::SkipLocked,
            };
            let of = match &l.of {
                None => None,
                Some(name) => {
                    let names = names_of(name)?;
                    let alias = names.last().map_or("", String::as_str);
                    let table = scope.from.tables.iter().find(|t| *t.alias == *alias).ok_or_else(|| {
                        let clause = if lock == ReadLock::Exclusive { "FOR UPDATE" } else { "FOR SHARE" };
                        let message =
                            format!("relation \"{alias}\" in {clause} clause not found in FROM clause");
                        SqlError::new(SqlState::UNDEFINED_TABLE, message).at(position_of(name))
                    })?;
                    let mut cols = ColSet::new();
                    table.columns.iter().for_each(|c| c.expr.collect_cols(&mut cols));
                    Some(cols)
                }
            };
            lock_gets(rel, Locking { lock, wait }, of.as_ref());
        }
        Ok(())
    }
}

fn lock_gets(rel: &mut Rel, locking: Locking, of: Option<&ColSet>) {
    if let Rel::Get(g) = rel {
        if of.is_none_or(|cols| g.cols.iter().any(|c| cols.contains(*c))) {
            g.locking = locking;
            g.for_update = true;
        }
        return;
    }
    rel.for_each_input_mut(&mut |r| lock_gets(r, locking, of));
}

fn is_null(e: &Expr) -> bool {
    matches!(e, Expr::Const(Datum::Null, _))
}
