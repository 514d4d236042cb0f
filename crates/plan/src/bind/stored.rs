//! Expressions that indexes keep as text.
//!
//! An entry that was made under one session must be found under any other, so such an expression may depend on nothing but
//! the row: no function that is not immutable, no literal that reads differently under another time zone or date style.
//! That is checked when the index is made, and from then on the text is bound with fixed settings.
//!
//! The text is brought into one form: columns without their table's name, which may change, and parentheses where
//! PostgreSQL prints them.

use std::ops::ControlFlow;

use meridian_catalog::{CatalogSnapshot, IndexDesc, TableDesc, quote_ident};
use meridian_datum::{DataType, EvalContext, Result, SqlError, SqlState, TimeZone, Volatility};
use sqlparser::ast::{self, BinaryOperator, UnaryOperator, VisitMut, VisitorMut};

use super::definition::{Definition, key_type, row_scope};
use super::expr::{Clause, Cx, position};
use super::types::is_immutable_cast;
use super::{At, Binder, name_of};
use crate::PlanContext;
use crate::ddl::{NewColumn, NewExpression};
use crate::expr::Expr;
use crate::lower::Lowerer;
use crate::same::same_expr;

impl Binder<'_> {
    /// The condition of a partial index to be made, as text.
    pub(super) fn index_predicate(&mut self, e: &ast::Expr, d: &Definition) -> Result<String> {
        self.stored_text(e, d, Clause::IndexPredicate).map(|(text, _)| text)
    }

    /// An expression in the key of an index to be made.
    pub(super) fn index_expression(&mut self, e: &ast::Expr, d: &Definition) -> Result<NewExpression> {
        let (text, ty) = self.stored_text(e, d, Clause::IndexExpression)?;
        key_type(&ty)?;
        if ty == DataType::Record {
            return Err(SqlError::unsupported("a row value in the key of an index").at(position(e)));
        }
        let name = super::column_name::column_name(e).unwrap_or_else(|| "expr".to_owned());
        Ok(NewExpression { name, text, ty, is_call: is_call(e) })
    }

    fn stored_text(&mut self, e: &ast::Expr, d: &Definition, clause: Clause) -> Result<(String, DataType)> {
        let at = position(e);
        let bound = self.bind_stored(e, &d.table, &d.columns, clause)?;
        check_stored(&bound, clause).at(at)?;
        let text = canonical(e, &d.columns).at(at)?;
        // Such texts are bound wherever rows are written, on stacks of ordinary size.
        if crate::parse::is_deep_expression(&text)? {
            return Err(SqlError::unsupported("a deeply nested expression in an index").at(at));
        }
        let fixed = bind_text(self.ctx.snapshot, &d.table, &d.columns, &text, clause)?;
        if self.time_dependent || !same_expr(&bound, &fixed) {
            let what = format!(
                "a constant in an index {} that is read by the time zone or date style of the session",
                noun(clause)
            );
            return Err(SqlError::unsupported(what).at(at));
        }
        Ok((text, bound.ty()))
    }

    /// Binds over all columns of a table, by their ordinals.
    fn bind_stored(
        &mut self,
        e: &ast::Expr,
        table: &str,
        columns: &[NewColumn],
        clause: Clause,
    ) -> Result<Expr> {
        let cols = self.new_cols(columns.len());
        let scope = row_scope(table, columns, &cols);
        let mut cx = Cx::new(&scope, clause);
        let bound = match clause {
            Clause::IndexPredicate => self.condition(e, &mut cx)?,
            _ => self.typed_expr(e, &mut cx)?,
        };
        if bound.has_subquery() {
            let message = format!("cannot use subquery in index {}", noun(clause));
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(position(e)));
        }
        Lowerer::new(self.ctx.snapshot).expr_over(&bound, &cols)
    }
}

fn noun(clause: Clause) -> &'static str {
    if clause == Clause::IndexPredicate { "predicate" } else { "expression" }
}

/// Binds a text with settings that are the same everywhere.
fn bind_text(
    snapshot: &CatalogSnapshot,
    table: &str,
    columns: &[NewColumn],
    text: &str,
    clause: Clause,
) -> Result<Expr> {
    let ast = crate::parse::parse_expression(text)?;
    let eval = EvalContext::new(TimeZone::Utc, 0, 0);
    let ctx =
        PlanContext { snapshot, database: "", user: "", search_path: &[], param_types: &[], eval: &eval };
    Binder::new(&ctx, text).bind_stored(&ast, table, columns, clause)
}

/// The condition of a partial index over the row: columns are ordinals. `None` for an index of all rows.
///
/// # Errors
/// None that is not a bug: the text was bound when it was stored.
pub fn index_predicate(
    snapshot: &CatalogSnapshot,
    table: &TableDesc,
    index: &IndexDesc,
) -> Result<Option<Expr>> {
    let Some(text) = &index.predicate else { return Ok(None) };
    let columns = super::ddl::new_columns(table);
    bind_text(snapshot, &table.name, &columns, text, Clause::IndexPredicate).map(Some)
}

/// The expressions of an index's key over the row, in order: columns are ordinals.
///
/// # Errors
/// None that is not a bug: the texts were bound when they were stored.
pub fn index_expressions(
    snapshot: &CatalogSnapshot,
    table: &TableDesc,
    index: &IndexDesc,
) -> Result<Vec<Expr>> {
    if index.expressions.is_empty() {
        return Ok(Vec::new());
    }
    let columns = super::ddl::new_columns(table);
    let bind = |text: &str| bind_text(snapshot, &table.name, &columns, text, Clause::IndexExpression);
    index.expressions.iter().map(|e| bind(&e.text)).collect()
}

/// Whether the index's stored expressions read a column.
pub(super) fn reads_column(
    snapshot: &CatalogSnapshot,
    table: &TableDesc,
    index: &IndexDesc,
    ordinal: usize,
) -> Result<bool> {
    let predicate = index_predicate(snapshot, table, index)?;
    let mut texts = index_expressions(snapshot, table, index)?.into_iter().chain(predicate);
    Ok(texts.any(|e| e.cols().contains(ordinal)))
}

/// What a stored expression may not hold.
fn check_stored(e: &Expr, clause: Clause) -> Result<()> {
    if e.any(&mut |e| matches!(e, Expr::Param { .. })) {
        return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
    }
    if !is_immutable(e) {
        let message = format!("functions in index {} must be marked IMMUTABLE", noun(clause));
        return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
    }
    Ok(())
}

/// Whether the value depends on nothing but the row.
fn is_immutable(e: &Expr) -> bool {
    !e.any(&mut |e| match e {
        Expr::Call { function, .. } | Expr::AnyAll { function, .. } => {
            function.def.volatility != Volatility::Immutable
        }
        Expr::Session { .. } => true,
        Expr::Cast { from, to, .. } => {
            !is_immutable_cast(from, to) || to.is_string() && prints_by_style(from)
        }
        _ => false,
    })
}

/// Types whose values print by the session's date style.
fn prints_by_style(ty: &DataType) -> bool {
    let element = ty.element();
    matches!(
        element.as_ref().unwrap_or(ty),
        DataType::Date | DataType::Timestamp | DataType::TimestampTz | DataType::Interval
    )
}

/// An expression over one table without the table's name, which may change.
pub(super) fn unqualified(e: &ast::Expr) -> ast::Expr {
    let mut copy = e.clone();
    let _ = ast::visit_expressions_mut(&mut copy, |e| {
        if let ast::Expr::CompoundIdentifier(parts) = e
            && let Some(column) = parts.last().map(name_of)
        {
            *e = ast::Expr::Identifier(plain_ident(&column));
        }
        ControlFlow::<()>::Continue(())
    });
    copy
}

/// The text of an expression that was bound.
fn canonical(e: &ast::Expr, columns: &[NewColumn]) -> Result<String> {
    let mut copy = e.clone();
    let mut form = Form { columns };
    match copy.visit(&mut form) {
        ControlFlow::Continue(()) => Ok(copy.to_string()),
        ControlFlow::Break(e) => Err(e),
    }
}

/// Whether an expression is printed as a call, as PostgreSQL has it.
fn is_call(e: &ast::Expr) -> bool {
    use ast::Expr as A;
    match e {
        A::Nested(inner) => is_call(inner),
        A::Function(_)
        | A::Extract { .. }
        | A::Position { .. }
        | A::Substring { .. }
        | A::Trim { .. }
        | A::Overlay { .. }
        | A::Ceil { .. }
        | A::Floor { .. } => true,
        _ => false,
    }
}

/// Brings an expression into its stored form, from the leaves up.
struct Form<'a> {
    columns: &'a [NewColumn],
}

impl VisitorMut for Form<'_> {
    type Break = SqlError;

    fn post_visit_expr(&mut self, e: &mut ast::Expr) -> ControlFlow<SqlError> {
        use ast::Expr as A;
        match e {
            A::Identifier(i) => {
                let name = name_of(i);
                if !self.columns.iter().any(|c| c.name == name) {
                    let what = format!("\"{name}\" in an index, which is no column,");
                    return ControlFlow::Break(SqlError::unsupported(what));
                }
                *i = plain_ident(&name);
            }
            A::CompoundIdentifier(parts) => {
                let name = parts.last().map(name_of).unwrap_or_default();
                *e = A::Identifier(plain_ident(&name));
            }
            A::Nested(_) => {
                let A::Nested(inner) = std::mem::replace(e, A::Identifier(plain_ident(""))) else {
                    unreachable!("just matched")
                };
                *e = *inner;
            }
            A::BinaryOp { left, op, .. } => {
                // A chain of one connective has one pair of parentheses.
                if matches!(op, BinaryOperator::And | BinaryOperator::Or)
                    && let A::Nested(inner) = &mut **left
                    && matches!(&**inner, A::BinaryOp { op: below, .. } if below == op)
                {
                    let inner = std::mem::replace(&mut **inner, A::Identifier(plain_ident("")));
                    **left = inner;
                }
                nest(e);
            }
            A::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr }
                if matches!(**expr, A::Value(_)) => {}
            A::UnaryOp { .. }
            | A::IsNull(_)
            | A::IsNotNull(_)
            | A::IsTrue(_)
            | A::IsNotTrue(_)
            | A::IsFalse(_)
            | A::IsNotFalse(_)
            | A::IsUnknown(_)
            | A::IsNotUnknown(_)
            | A::IsDistinctFrom(..)
            | A::IsNotDistinctFrom(..)
            | A::InList { .. }
            | A::Between { .. }
            | A::Like { .. }
            | A::ILike { .. }
            | A::SimilarTo { .. }
            | A::AnyOp { .. }
            | A::AllOp { .. }
            | A::AtTimeZone { .. } => nest(e),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn nest(e: &mut ast::Expr) {
    let inner = std::mem::replace(e, ast::Expr::Identifier(plain_ident("")));
    *e = ast::Expr::Nested(Box::new(inner));
}

/// A name, in quotes where it needs them.
pub(super) fn plain_ident(name: &str) -> ast::Ident {
    if quote_ident(name) == name { ast::Ident::new(name) } else { ast::Ident::with_quote('"', name) }
}
