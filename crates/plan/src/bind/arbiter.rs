//! Which unique indexes an `ON CONFLICT (...) WHERE ...` means: those on exactly its elements whose condition, if they have
//! one, follows from its own. All of them may find the conflict.

use meridian_catalog::{IndexDesc, IndexId, IndexState, TableRef};
use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::ast;

use super::expr::{Clause, Cx};
use super::scope::Scope;
use super::{At, Binder, name_of, pos};
use crate::expr::Expr;
use crate::lower::partial::{self, Row};
use crate::parse::target_number;
use crate::same::same_expr;

/// What a clause names.
struct Wanted {
    /// Ordinals, ascending.
    columns: Vec<usize>,
    /// Expressions over the statement's columns.
    expressions: Vec<Expr>,
    /// The conjuncts of its condition.
    conds: Vec<Expr>,
}

impl Binder<'_> {
    /// The indexes that an inference specification names.
    ///
    /// # Errors
    /// 42P10 where there is none.
    pub(super) fn arbiters(
        &mut self,
        table: &TableRef,
        alias: Option<String>,
        names: &[ast::Ident],
    ) -> Result<Vec<IndexId>> {
        let cols = self.new_cols(table.columns.len());
        let row = Row { table, cols: &cols };
        let scope = Scope { from: self.target_scope(table, alias, &cols), ..Scope::default() };
        let mut wanted = Wanted { columns: Vec::new(), expressions: Vec::new(), conds: Vec::new() };
        match names {
            [single] if target_number(single).is_some() => {
                let targets = self.conflict_targets;
                let target =
                    target_number(single).and_then(|n| targets.get(n)).expect("the parser took it out");
                for e in &target.elements {
                    match super::expr::strip_nested(e) {
                        ast::Expr::Identifier(name) => wanted.columns.push(conflict_column(table, name)?),
                        other => {
                            let mut cx = Cx::new(&scope, Clause::IndexExpression);
                            wanted.expressions.push(self.typed_expr(other, &mut cx)?);
                        }
                    }
                }
                if let Some(e) = &target.predicate {
                    // PostgreSQL asks no boolean of it.
                    let condition = self.typed_expr(e, &mut Cx::new(&scope, Clause::IndexPredicate))?;
                    wanted.conds = match condition {
                        Expr::And(parts) => parts,
                        single => vec![single],
                    };
                }
            }
            names => {
                for name in names {
                    wanted.columns.push(conflict_column(table, name)?);
                }
            }
        }
        wanted.columns.sort_unstable();
        wanted.columns.dedup();
        let mut found = Vec::new();
        for index in table.all_indexes().filter(|i| i.unique && i.state != IndexState::DeleteOnly) {
            if self.is_meant(row, index, &wanted)? {
                found.push(index.id);
            }
        }
        if found.is_empty() {
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
        Ok(found)
    }

    fn is_meant(&self, row: Row<'_>, index: &IndexDesc, wanted: &Wanted) -> Result<bool> {
        let mut columns = row.table.index_ordinals(index);
        columns.retain(|o| *o < row.cols.len());
        columns.sort_unstable();
        if columns != wanted.columns {
            return Ok(false);
        }
        let expressions = partial::expressions(self.ctx.snapshot, row, index)?;
        let among = |e: &Expr, list: &[Expr]| list.iter().any(|other| same_expr(e, other));
        if !expressions.iter().all(|e| among(e, &wanted.expressions))
            || !wanted.expressions.iter().all(|e| among(e, &expressions))
        {
            return Ok(false);
        }
        let predicate = partial::predicate(self.ctx.snapshot, row, index)?;
        Ok(partial::all_implied(row, &wanted.conds, &predicate))
    }
}

fn conflict_column(table: &TableRef, name: &ast::Ident) -> Result<usize> {
    let text = name_of(name);
    let found = table.column_by_name(&text);
    found.map(|(ordinal, _)| ordinal).ok_or_else(|| {
        let message = format!("column \"{text}\" does not exist");
        SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(pos(name.span))
    })
}
