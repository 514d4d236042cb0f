//! The null bitmap.

/// Which rows of a column are NULL.
///
/// Invariant: `words` is empty (no NULL so far) or covers `len` rows; bits at and beyond `len` are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nulls {
    words: Vec<u64>,
    len: usize,
    count: usize,
}

impl Nulls {
    /// No rows.
    pub const fn new() -> Self {
        Nulls { words: Vec::new(), len: 0, count: 0 }
    }

    /// `len` rows, none of them NULL.
    pub fn none(len: usize) -> Self {
        Nulls { words: Vec::new(), len, count: 0 }
    }

    /// `len` rows, all of them NULL.
    pub fn all(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if !len.is_multiple_of(64) {
            *words.last_mut().expect("len is not zero here") = (1u64 << (len % 64)) - 1;
        }
        Nulls { words, len, count: len }
    }

    /// Rows covered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row is covered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any row is NULL: the test that lets a kernel skip the bitmap.
    pub fn any(&self) -> bool {
        self.count > 0
    }

    /// How many rows are NULL.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        debug_assert!(row < self.len);
        self.count > 0 && self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// Appends a row.
    pub fn push(&mut self, null: bool) {
        let row = self.len;
        self.len += 1;
        if null {
            if self.words.is_empty() {
                self.words.resize(self.len.div_ceil(64), 0);
            } else if self.words.len() * 64 < self.len {
                self.words.push(0);
            }
            self.words[row / 64] |= 1 << (row % 64);
            self.count += 1;
        } else if !self.words.is_empty() && self.words.len() * 64 < self.len {
            self.words.push(0);
        }
    }

    /// Appends `n` rows that are not NULL.
    pub fn push_valid(&mut self, n: usize) {
        self.len += n;
        if !self.words.is_empty() {
            self.words.resize(self.len.div_ceil(64), 0);
        }
    }

    /// Marks a row.
    pub fn set_null(&mut self, row: usize) {
        assert!(row < self.len, "a null bit beyond the column's end");
        if self.words.is_empty() {
            self.words.resize(self.len.div_ceil(64), 0);
        }
        let word = &mut self.words[row / 64];
        if *word >> (row % 64) & 1 == 0 {
            *word |= 1 << (row % 64);
            self.count += 1;
        }
    }

    /// The rows that are NULL on either side: the result of a strict operator.
    pub fn union(&self, other: &Nulls) -> Nulls {
        assert_eq!(self.len, other.len, "operands of a kernel must have equal lengths");
        if !self.any() {
            return other.clone();
        }
        if !other.any() {
            return self.clone();
        }
        let words: Vec<u64> = self.words.iter().zip(&other.words).map(|(a, b)| a | b).collect();
        let count = words.iter().map(|w| w.count_ones() as usize).sum();
        Nulls { words, len: self.len, count }
    }

    /// The rows picked, in order.
    pub fn gather(&self, rows: &[u32]) -> Nulls {
        if !self.any() {
            return Nulls::none(rows.len());
        }
        let mut out = Nulls::new();
        for &r in rows {
            out.push(self.is_null(r as usize));
        }
        out
    }

    /// Appends rows of another bitmap.
    pub fn extend(&mut self, other: &Nulls, range: std::ops::Range<usize>) {
        assert!(range.end <= other.len, "a range beyond the bitmap's end");
        if !other.any() {
            self.push_valid(range.len());
            return;
        }
        for r in range {
            self.push(other.is_null(r));
        }
    }

    /// Drops the rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        if !self.words.is_empty() {
            self.words.truncate(len.div_ceil(64));
            if !len.is_multiple_of(64) {
                *self.words.last_mut().expect("len is not zero here") &= (1u64 << (len % 64)) - 1;
            }
            self.count = self.words.iter().map(|w| w.count_ones() as usize).sum();
        }
    }
}
