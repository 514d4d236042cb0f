//! [`Batch`]: columns of equal length.

use std::ops::Range;

use crate::column::Column;
use crate::datum::Datum;
use crate::types::DataType;

/// Rows in columns.
///
/// Invariant: every column has `len` rows. The length is kept beside them, since a batch may have rows and no columns
/// (`SELECT count(*)`).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    columns: Vec<Column>,
    len: usize,
}

impl Batch {
    /// A batch of columns.
    ///
    /// # Panics
    /// When a column has another length.
    pub fn new(columns: Vec<Column>, len: usize) -> Self {
        for c in &columns {
            assert_eq!(c.len(), len, "the columns of a batch have equal lengths");
        }
        Batch { columns, len }
    }

    /// No rows of the types, with room for some.
    pub fn with_capacity<'a>(types: impl IntoIterator<Item = &'a DataType>, rows: usize) -> Self {
        Batch { columns: types.into_iter().map(|t| Column::with_capacity(t, rows)).collect(), len: 0 }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// One column.
    pub fn column(&self, index: usize) -> &Column {
        &self.columns[index]
    }

    /// The columns, taken.
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }

    /// One value.
    pub fn get(&self, column: usize, row: usize) -> Datum {
        self.columns[column].get(row)
    }

    /// One row.
    pub fn row(&self, row: usize) -> Vec<Datum> {
        self.columns.iter().map(|c| c.get(row)).collect()
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When the number or the representation of the values is not that of the columns.
    pub fn push_row(&mut self, values: &[Datum]) {
        assert_eq!(values.len(), self.columns.len(), "a row has one value per column");
        for (c, v) in self.columns.iter_mut().zip(values) {
            c.push_ref(v);
        }
        self.len += 1;
    }

    /// Lets a decoder fill the columns in place: `fill` must push exactly one value onto every column.
    ///
    /// # Panics
    /// When it did not.
    pub fn push_with<E>(&mut self, fill: impl FnOnce(&mut [Column]) -> Result<(), E>) -> Result<(), E> {
        fill(&mut self.columns)?;
        self.len += 1;
        for c in &self.columns {
            assert_eq!(c.len(), self.len, "a row was not pushed onto every column");
        }
        Ok(())
    }

    /// Appends a row of no columns.
    ///
    /// # Panics
    /// When there are columns.
    pub fn push_empty_row(&mut self) {
        assert!(self.columns.is_empty(), "a row without values in a batch with columns");
        self.len += 1;
    }

    /// Adds a column.
    ///
    /// # Panics
    /// When its length differs.
    pub fn push_column(&mut self, column: Column) {
        assert_eq!(column.len(), self.len, "the columns of a batch have equal lengths");
        self.columns.push(column);
    }

    /// The columns picked, in order.
    pub fn project(&self, columns: &[usize]) -> Batch {
        Batch { columns: columns.iter().map(|&c| self.columns[c].clone()).collect(), len: self.len }
    }

    /// The rows picked, in order.
    pub fn gather(&self, rows: &[u32]) -> Batch {
        Batch { columns: self.columns.iter().map(|c| c.gather(rows)).collect(), len: rows.len() }
    }

    /// A copy of a range of rows.
    pub fn slice(&self, range: Range<usize>) -> Batch {
        Batch { columns: self.columns.iter().map(|c| c.slice(range.clone())).collect(), len: range.len() }
    }

    /// Appends the rows of another batch of the same types.
    pub fn append(&mut self, other: &Batch) {
        assert_eq!(self.columns.len(), other.columns.len(), "batches of different widths cannot be joined");
        for (a, b) in self.columns.iter_mut().zip(&other.columns) {
            a.append(b);
        }
        self.len += other.len;
    }

    /// Drops the rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        for c in &mut self.columns {
            c.truncate(len);
        }
        self.len = self.len.min(len);
    }

    /// Bytes on the heap, approximately.
    pub fn heap_size(&self) -> usize {
        self.columns.iter().map(Column::heap_size).sum()
    }
}
