//! What an index keeps as text: which rows have entries, and the expressions of its key.

use std::borrow::Cow;
use std::sync::Arc;

use meridian_catalog::{CatalogSnapshot, IndexDesc, TableDesc};
use meridian_datum::{Datum, Result};
use meridian_plan::{Expr, index_expressions, index_predicate};

use crate::eval::{Row, Scope};

/// The condition of a partial index, and the expressions of the key with their ordinals, over a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    condition: Option<Arc<Expr>>,
    expressions: Vec<(usize, Arc<Expr>)>,
    /// Ordinals of the table that the condition reads, and those that the expressions read.
    condition_reads: Vec<usize>,
    expressions_read: Vec<usize>,
    /// Columns and expressions of the table, so many as a full row has values.
    width: usize,
}

impl Stored {
    /// Bound once for each copy of the descriptor.
    pub(super) fn of(catalog: &CatalogSnapshot, table: &TableDesc, index: &IndexDesc) -> Result<Stored> {
        if index.predicate.is_none() && index.expressions.is_empty() {
            return Ok(Stored::default());
        }
        index.memo.get_or_make(|| Stored::bind(catalog, table, index))
    }

    fn bind(catalog: &CatalogSnapshot, table: &TableDesc, index: &IndexDesc) -> Result<Stored> {
        let condition = index_predicate(catalog, table, index)?.map(Arc::new);
        let texts = index_expressions(catalog, table, index)?;
        let ids = index.expressions.iter().map(|e| table.ordinal(e.id));
        let expressions: Vec<(usize, Arc<Expr>)> = ids.zip(texts.into_iter().map(Arc::new)).collect();
        let reads = |exprs: &mut dyn Iterator<Item = &Arc<Expr>>| {
            let exprs: Vec<&Arc<Expr>> = exprs.collect();
            let is_read = |ordinal: &usize| {
                let is = |e: &Expr| matches!(e, Expr::Column { index, .. } if index == ordinal);
                exprs.iter().any(|e| e.any(&mut |e| is(e)))
            };
            (0..table.columns.len()).filter(is_read).collect()
        };
        Ok(Stored {
            condition_reads: reads(&mut condition.iter()),
            expressions_read: reads(&mut expressions.iter().map(|(_, e)| e)),
            width: table.columns.len() + table.expressions().count(),
            condition,
            expressions,
        })
    }

    /// Whether the condition is true of a row (one datum per column of the table).
    pub(super) fn covers(&self, row: &[Datum]) -> Result<bool> {
        let Some(condition) = &self.condition else { return Ok(true) };
        Ok(Scope::of_row().datum(condition, Row::Values(row))?.as_bool() == Some(true))
    }

    /// The row with the values of the index's expressions behind it, each at its ordinal.
    pub(super) fn full<'r>(&self, row: &'r [Datum]) -> Result<Cow<'r, [Datum]>> {
        if self.expressions.is_empty() {
            return Ok(Cow::Borrowed(row));
        }
        let mut full = row.to_vec();
        full.resize(self.width, Datum::Null);
        for (ordinal, e) in &self.expressions {
            full[*ordinal] = Scope::of_row().datum(e, Row::Values(row))?;
        }
        Ok(Cow::Owned(full))
    }

    /// Ordinals that the condition reads.
    pub(super) fn condition_reads(&self) -> &[usize] {
        &self.condition_reads
    }

    /// Ordinals that the expressions read.
    pub(super) fn expressions_read(&self) -> &[usize] {
        &self.expressions_read
    }
}
