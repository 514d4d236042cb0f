//! Functions whose answer lies in the catalog or the session rather than in their arguments.

use meridian_datum::DataType;

/// A function that is evaluated with a [`CatalogSnapshot`](crate::CatalogSnapshot) and a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatalogFunction {
    /// `version()`
    Version,
}

impl CatalogFunction {
    /// The type of the result.
    pub fn result_type(self) -> DataType {
        DataType::Text
    }

    /// Whether every call may give another value.
    pub fn is_volatile(self) -> bool {
        false
    }
}
