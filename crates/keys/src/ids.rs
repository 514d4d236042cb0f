//! Identifiers of the catalog that appear in keys.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the raw number.
            pub const fn new(raw: $inner) -> Self {
                $name(raw)
            }

            /// The raw number, for encodings.
            pub const fn get(self) -> $inner {
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

id! {
    /// Anything that has a descriptor: database, schema, table, sequence, type. Never reused. A table's id is its
    /// descriptor's.
    DescriptorId, u64
}
id! {
    /// A table. Never reused.
    TableId, u64
}
id! {
    /// An index of a table; unique and never reused within the table.
    IndexId, u32
}
id! {
    /// A column of a table; unique and never reused within the table.
    ColumnId, u32
}
id! {
    /// A long-running job.
    JobId, u64
}

impl IndexId {
    /// The primary key's index, which holds the rows.
    pub const PRIMARY: IndexId = IndexId(1);
}

impl From<DescriptorId> for TableId {
    fn from(id: DescriptorId) -> Self {
        TableId(id.0)
    }
}

impl From<TableId> for DescriptorId {
    fn from(id: TableId) -> Self {
        DescriptorId(id.0)
    }
}
