//! Identifiers of catalog objects.
//!
//! Every object that PostgreSQL's catalog would give an oid draws it from one cluster-wide counter, so that an oid names
//! one object in any system table. Column and index numbers count within their table and are never used again after
//! a drop: keys and rows on disk carry them.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The oid that clients see.
            pub fn oid(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A database.
    DatabaseId
);
id!(
    /// A schema of a database.
    SchemaId
);
id!(
    /// A table; also the number in its keys.
    TableId
);
id!(
    /// A column within its table (`attnum`), from 1 in order of creation.
    ColumnId
);
id!(
    /// An index within its table; 1 is the primary index.
    IndexId
);

impl IndexId {
    /// The primary index of every table.
    pub const PRIMARY: IndexId = IndexId(1);
}

/// The first oid of user objects, as in PostgreSQL (`FirstNormalObjectId`).
pub const FIRST_USER_OID: u32 = 16384;
