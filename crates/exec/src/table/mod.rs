//! Tables over keys: how rows and index entries are laid out, written and read.
//!
//! ```text
//! row    key    table/1/primary key columns         (interleaved: parent's row key / table/1/further columns)
//!        value  columns by id: all that the key does not hold exactly
//! entry  key    table/index/index columns/primary key columns that are not among them
//!        value  columns by id: stored ones, and key columns that the key does not hold exactly
//! unique key    table/index/index columns           (with the suffix above where some column is NULL)
//!        value  as above, and the primary key columns
//! ```
//! A row that is older than a column lacks it, and reads as what is missing (`ColumnDesc::missing`); NULLs of such columns are
//! in the value. Entries are made from rows as they read.
//!
//! A partial index has entries of the rows for which its condition is true. An expression in a key is a column like any
//! other, with an ordinal behind those of the table; a row with the values of an index's expressions is a *full* row.
//!
//! A key holds a value exactly unless equal values may print differently: `1.0` and `1.00`, `-0`, blank-padded strings,
//! intervals. Such columns are in the value too, and read from there.

mod key;
mod reader;
mod spans;
mod stored;
mod writer;

pub(crate) use key::{Prefix, push_datum};

pub(crate) use reader::{Decoded, IndexReader};
pub(crate) use spans::{KeySpans, evaluate as evaluate_spans};
pub(crate) use writer::{IndexWriter, TableWriter};

use meridian_datum::SqlError;
use meridian_keys::KeyError;

#[cold]
pub(crate) fn corrupted(e: KeyError) -> SqlError {
    SqlError::new(meridian_datum::SqlState::DATA_CORRUPTED, format!("malformed key: {e}"))
}
