//! Arrays of SQL values.

use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::state::SqlState;
use crate::types::DataType;

/// Most dimensions an array may have, as in PostgreSQL (`MAXDIM`).
pub const MAX_DIMENSIONS: usize = 6;

/// An array: its elements in row-major order and its dimensions.
///
/// Invariant: the product of the dimensions' lengths is the number of elements; an empty array has no dimensions.
#[derive(Clone, Debug)]
pub struct ArrayValue {
    element_type: DataType,
    dimensions: Vec<Dimension>,
    elements: Vec<Datum>,
}

/// One dimension of an array.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dimension {
    /// How many elements.
    pub len: i32,
    /// The first subscript: 1 for ordinary arrays, 0 for the catalog's vectors.
    pub lower: i32,
}

/// `54000` for an array of more dimensions than [`MAX_DIMENSIONS`].
pub fn check_dimensions(count: usize) -> Result<()> {
    if count <= MAX_DIMENSIONS {
        return Ok(());
    }
    let message =
        format!("number of array dimensions ({count}) exceeds the maximum allowed ({MAX_DIMENSIONS})");
    Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message))
}

impl ArrayValue {
    /// A one-dimensional array that counts from 1.
    pub fn new(element_type: DataType, elements: Vec<Datum>) -> Self {
        Self::with_lower_bound(element_type, elements, 1)
    }

    /// `int2vector` and `oidvector` values, which count from 0.
    pub fn vector(element_type: DataType, elements: Vec<Datum>) -> Self {
        Self::with_lower_bound(element_type, elements, 0)
    }

    fn with_lower_bound(element_type: DataType, elements: Vec<Datum>, lower: i32) -> Self {
        let dimensions = if elements.is_empty() {
            Vec::new()
        } else {
            vec![Dimension { len: i32::try_from(elements.len()).expect("arrays fit in memory"), lower }]
        };
        ArrayValue { element_type, dimensions, elements }
    }

    /// An array of several dimensions.
    ///
    /// # Panics
    /// When the dimensions do not match the number of elements.
    pub fn with_dimensions(element_type: DataType, dimensions: Vec<Dimension>, elements: Vec<Datum>) -> Self {
        if elements.is_empty() {
            return ArrayValue { element_type, dimensions: Vec::new(), elements };
        }
        let product: i64 = dimensions.iter().map(|d| i64::from(d.len)).product();
        assert_eq!(product, elements.len() as i64, "an array's dimensions must count its elements");
        assert!(dimensions.len() <= MAX_DIMENSIONS, "an array has at most six dimensions");
        ArrayValue { element_type, dimensions, elements }
    }

    /// The type of the elements.
    pub fn element_type(&self) -> &DataType {
        &self.element_type
    }

    /// The dimensions, outermost first; none when empty.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// All elements in row-major order.
    pub fn elements(&self) -> &[Datum] {
        &self.elements
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The element at the subscripts, `None` where PostgreSQL yields NULL (out of bounds, wrong number of subscripts).
    pub fn get(&self, subscripts: &[i64]) -> Option<&Datum> {
        if subscripts.len() != self.dimensions.len() || subscripts.is_empty() {
            return None;
        }
        let mut at: i64 = 0;
        for (s, d) in subscripts.iter().zip(&self.dimensions) {
            let offset = s - i64::from(d.lower);
            if offset < 0 || offset >= i64::from(d.len) {
                return None;
            }
            at = at * i64::from(d.len) + offset;
        }
        self.elements.get(usize::try_from(at).expect("offsets are not negative"))
    }

    /// The slice `[from:to]` of the first dimension, renumbered from 1; `None` bounds are open.
    pub fn slice(&self, from: Option<i64>, to: Option<i64>) -> ArrayValue {
        let Some(first) = self.dimensions.first() else { return self.clone() };
        let lower = i64::from(first.lower);
        let upper = lower + i64::from(first.len);
        let from = from.unwrap_or(lower).clamp(lower, upper);
        let to = to.map_or(upper, |t| t.saturating_add(1)).clamp(from, upper);
        let stride = self.elements.len() / first.len as usize;
        let range = (from - lower) as usize * stride..(to - lower) as usize * stride;
        let mut dimensions = self.dimensions.clone();
        dimensions[0].len = (to - from) as i32;
        for d in &mut dimensions {
            d.lower = 1;
        }
        ArrayValue::with_dimensions(self.element_type.clone(), dimensions, self.elements[range].to_vec())
    }
}
