//! The two containers behind the typed columns.

use crate::column::Nulls;

/// Values of one machine type. The value of a NULL row is the type's default.
#[derive(Clone, Debug, Default)]
pub struct Vector<T> {
    /// One value per row.
    pub values: Vec<T>,
    /// Which rows are NULL.
    pub nulls: Nulls,
}

impl<T: Copy + Default> Vector<T> {
    /// No rows, with room for some.
    pub fn with_capacity(n: usize) -> Self {
        Vector { values: Vec::with_capacity(n), nulls: Nulls::new() }
    }

    /// Values none of which is NULL.
    pub fn from_values(values: Vec<T>) -> Self {
        let nulls = Nulls::none(values.len());
        Vector { values, nulls }
    }

    /// Values and their nulls.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn new(values: Vec<T>, nulls: Nulls) -> Self {
        assert_eq!(values.len(), nulls.len(), "a column has one null bit per value");
        Vector { values, nulls }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The row's value, `None` for NULL.
    pub fn get(&self, row: usize) -> Option<T> {
        if self.nulls.is_null(row) { None } else { Some(self.values[row]) }
    }

    /// Appends a row.
    pub fn push(&mut self, value: Option<T>) {
        self.values.push(value.unwrap_or_default());
        self.nulls.push(value.is_none());
    }

    pub(crate) fn gather(&self, rows: &[u32]) -> Self {
        Vector {
            values: rows.iter().map(|&r| self.values[r as usize]).collect(),
            nulls: self.nulls.gather(rows),
        }
    }

    pub(crate) fn gather_optional(&self, rows: &[Option<u32>]) -> Self {
        let mut out = Vector::with_capacity(rows.len());
        for r in rows {
            out.push(r.and_then(|r| self.get(r as usize)));
        }
        out
    }

    pub(crate) fn extend(&mut self, other: &Self, range: std::ops::Range<usize>) {
        self.values.extend_from_slice(&other.values[range.clone()]);
        self.nulls.extend(&other.nulls, range);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.nulls.truncate(len);
    }
}

/// Strings, concatenated: filling one from storage copies bytes and allocates nothing per row.
///
/// Invariant: `ends` ascends, its last element is the length of `text`; every end is a character boundary.
#[derive(Clone, Debug, Default)]
pub struct TextVector {
    text: String,
    ends: Vec<u32>,
    nulls: Nulls,
}

impl TextVector {
    /// No rows, with room for some.
    pub fn with_capacity(rows: usize) -> Self {
        TextVector { text: String::new(), ends: Vec::with_capacity(rows), nulls: Nulls::new() }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Which rows are NULL.
    pub fn nulls(&self) -> &Nulls {
        &self.nulls
    }

    /// The row's string; empty for NULL.
    pub fn str_at(&self, row: usize) -> &str {
        let from = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.text[from..self.ends[row] as usize]
    }

    /// The row's bytes; empty for NULL. Cheaper than [`TextVector::str_at`], which checks character boundaries.
    pub fn bytes_at(&self, row: usize) -> &[u8] {
        let from = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.text.as_bytes()[from..self.ends[row] as usize]
    }

    /// The row's string, `None` for NULL.
    pub fn get(&self, row: usize) -> Option<&str> {
        if self.nulls.is_null(row) { None } else { Some(self.str_at(row)) }
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When the column would exceed 4 GiB; batches are bounded far below that.
    pub fn push(&mut self, value: Option<&str>) {
        if let Some(s) = value {
            self.text.push_str(s);
        }
        self.ends.push(u32::try_from(self.text.len()).expect("a text column stays below 4 GiB"));
        self.nulls.push(value.is_none());
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4
    }

    pub(crate) fn gather(&self, rows: &[u32]) -> Self {
        let mut out = TextVector::with_capacity(rows.len());
        for &r in rows {
            out.push(self.get(r as usize));
        }
        out
    }

    pub(crate) fn gather_optional(&self, rows: &[Option<u32>]) -> Self {
        let mut out = TextVector::with_capacity(rows.len());
        for r in rows {
            out.push(r.and_then(|r| self.get(r as usize)));
        }
        out
    }

    pub(crate) fn extend(&mut self, other: &Self, range: std::ops::Range<usize>) {
        for r in range {
            self.push(other.get(r));
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.ends.len() {
            self.ends.truncate(len);
            self.text.truncate(self.ends.last().map_or(0, |&e| e as usize));
            self.nulls.truncate(len);
        }
    }
}
