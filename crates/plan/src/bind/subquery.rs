//! Subqueries in expressions.

use meridian_datum::{CastContext, DataType, Result, SqlError, SqlState, lookup_operator};
use sqlparser::ast::{self, BinaryOperator};

use super::expr::{Cx, conjunction, negate, position};
use super::ops::operator_symbol;
use super::{At, Binder, BoundQuery};
use crate::expr::Expr;
use crate::logical::{Unplanned, UnplannedKind};

impl Binder<'_> {
    fn nested_query(&mut self, q: &ast::Query, cx: &Cx<'_, '_>) -> Result<BoundQuery> {
        use super::expr::Clause;
        match cx.clause {
            Clause::Default | Clause::Check | Clause::Transform | Clause::Execute => {
                let (clause, code) = match cx.clause {
                    Clause::Default => ("DEFAULT expression", SqlState::FEATURE_NOT_SUPPORTED),
                    Clause::Check => ("check constraint", SqlState::FEATURE_NOT_SUPPORTED),
                    Clause::Execute => ("EXECUTE parameter", SqlState::FEATURE_NOT_SUPPORTED),
                    _ => ("transform expression", SqlState::FEATURE_NOT_SUPPORTED),
                };
                Err(SqlError::new(code, format!("cannot use subquery in {clause}")))
            }
            _ => {
                // Aggregates inside belong to the subquery, whatever surrounds it.
                let depth = std::mem::take(&mut self.in_aggregate);
                self.subquery_depth += 1;
                let result = self.query(q, cx.scope);
                self.subquery_depth -= 1;
                self.in_aggregate = depth;
                result
            }
        }
    }

    pub(super) fn scalar_subquery(&mut self, q: &ast::Query, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let bound = self.nested_query(q, cx)?;
        let [column] = bound.columns.as_slice() else {
            let message = "subquery must return only one column";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(super::pos(ast::Spanned::span(q))));
        };
        let ty = column.ty.clone();
        Ok(unplanned(UnplannedKind::Scalar, bound, ty))
    }

    /// `ARRAY(SELECT ...)`.
    pub(super) fn array_subquery(&mut self, q: &ast::Query, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let bound = self.nested_query(q, cx)?;
        let [column] = bound.columns.as_slice() else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "subquery must return only one column"));
        };
        let ty = DataType::array(column.ty.clone());
        Ok(unplanned(UnplannedKind::Array, bound, ty))
    }

    pub(super) fn exists(&mut self, q: &ast::Query, negated: bool, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let bound = self.nested_query(q, cx)?;
        let e = unplanned(UnplannedKind::Exists, bound, DataType::Bool);
        Ok(if negated { negate(e) } else { e })
    }

    pub(super) fn in_subquery(
        &mut self,
        left: &ast::Expr,
        q: &ast::Query,
        negated: bool,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let found = self.quantified(false, left, "=", q, position(left), cx)?;
        Ok(if negated { negate(found) } else { found })
    }

    /// `left op ANY (subquery)`, `left op ALL (subquery)`.
    pub(super) fn quantified(
        &mut self,
        all: bool,
        left: &ast::Expr,
        symbol: &str,
        q: &ast::Query,
        at: u32,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let left = match self.expr(left, cx)? {
            Expr::Row(items) => items,
            single => vec![single],
        };
        let bound = self.nested_query(q, cx)?;
        if left.len() != bound.columns.len() {
            let what = if bound.columns.len() > left.len() { "many" } else { "few" };
            let message = format!("subquery has too {what} columns");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        let left_cols = self.new_cols(left.len());
        let mut typed_left = Vec::with_capacity(left.len());
        let mut parts = Vec::with_capacity(left.len());
        let mut is_equality = symbol == "=";
        for ((l, id), c) in left.into_iter().zip(&left_cols).zip(&bound.columns) {
            let function = lookup_operator(symbol, Some(&l.ty()), &c.ty).at(at)?;
            if function.result_type != DataType::Bool {
                let message =
                    format!("operator {symbol} must return type boolean, not type {}", function.result_type);
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(at));
            }
            let to = function.arg_types[0].clone();
            let l = self.coerce(l, &to, CastContext::Implicit, at)?;
            is_equality &= function.arg_types[1].same_type(&c.ty) && to.same_type(&c.ty);
            let args = vec![Expr::column(*id, l.ty()), Expr::column(c.col, c.ty.clone())];
            typed_left.push(l);
            parts.push(self.call(function, args, at)?);
        }
        if symbol != "=" && symbol != "<>" && parts.len() > 1 {
            return Err(SqlError::unsupported(format!("row comparison {symbol} with a subquery")).at(at));
        }
        let condition = if symbol == "<>" && parts.len() > 1 {
            super::expr::disjunction(parts)
        } else {
            conjunction(parts)
        };
        let cols = bound.columns.iter().map(|c| c.col).collect();
        Ok(Expr::Unplanned(Box::new(Unplanned {
            kind: if all { UnplannedKind::All } else { UnplannedKind::Any },
            rel: bound.rel,
            cols,
            left: typed_left,
            left_cols,
            condition: Some(condition),
            is_equality,
            ty: DataType::Bool,
        })))
    }

    /// `(a, b) op (SELECT x, y)`.
    pub(super) fn row_subquery(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        q: &ast::Query,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = position(left);
        let symbol = operator_symbol(op)?;
        let row = self.expr(left, cx)?;
        let width = if let Expr::Row(items) = &row { items.len() } else { 1 };
        let columns = self.row_of_subquery(q, cx)?;
        if columns.len() != width {
            let what = if columns.len() > width { "many" } else { "few" };
            let message = format!("subquery has too {what} columns");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        self.compare(&symbol, row, Expr::Row(columns), at)
    }

    /// The columns of a subquery's only row, as a scalar subquery each.
    pub(super) fn row_of_subquery(&mut self, q: &ast::Query, cx: &mut Cx<'_, '_>) -> Result<Vec<Expr>> {
        let bound = self.nested_query(q, cx)?;
        let mut is_volatile = false;
        bound.rel.for_each_expr(&mut |e| is_volatile |= e.is_volatile());
        if is_volatile {
            let at = super::pos(ast::Spanned::span(q));
            return Err(SqlError::unsupported("a volatile function in a subquery of several columns").at(at));
        }
        let cols: Vec<_> = bound.columns.iter().map(|c| c.col).collect();
        let mut out = Vec::with_capacity(cols.len());
        for (i, column) in bound.columns.into_iter().enumerate() {
            self.size.inline(&bound.rel)?;
            let (rel, cols) = self.refresh(&bound.rel, &cols);
            let ty = column.ty.clone();
            let column = super::query::OutCol { col: cols[i], ..column };
            out.push(unplanned(UnplannedKind::Scalar, BoundQuery { rel, columns: vec![column] }, ty));
        }
        Ok(out)
    }
}

fn unplanned(kind: UnplannedKind, bound: BoundQuery, ty: DataType) -> Expr {
    Expr::Unplanned(Box::new(Unplanned {
        kind,
        cols: bound.columns.iter().map(|c| c.col).collect(),
        rel: bound.rel,
        left: Vec::new(),
        left_cols: Vec::new(),
        condition: None,
        is_equality: false,
        ty,
    }))
}
