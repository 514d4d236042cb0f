//! Schema changes while gateways write: an index on the values comes and goes (DESIGN section 6, decision 14).
//!
//! ```text
//!   no index --T1--> write-only --backfill at S > T1--> --T2--> public --T3--> no index
//! ```
//! The catalog is a record in the store, read and written by transactions like any other, and so is the fence, the announced
//! activation. Every gateway has a `SchemaLease` of `meridian-catalog`, as nodes do, which bounds its commits; around it is a
//! small copy of the cache that reads the store and answers announcements (`gateway`), and of the coordinator of changes
//! (`change`), which vanishes now and then. What upholds the bounds are the shards.
//!
//! The entry of a row is at its value, which is unique, and names the row; it lies in the first shard, so that nearly every
//! write is of several shards. In the end (`verdict`)
//!
//! - every commit lies within the time in which the version that it was planned on was in force;
//! - at every timestamp at which the index was public, it had exactly the rows' entries.

mod change;
mod gateway;
mod verdict;

use std::sync::Arc;

use bytes::Bytes;
use meridian_catalog::{
    CatalogSnapshot, ColumnDesc, ColumnId, Direction, IndexColumn, IndexDesc, IndexId, IndexState, SchemaId,
    TableDesc, TableId,
};
use meridian_datum::DataType;
use meridian_types::{Duration, Key, Span, Timestamp};

pub(super) use change::Change;
pub(super) use gateway::Gateway;
pub(super) use verdict::check;

/// How long a gateway plans on a catalog without having looked at it.
const LEASE: Duration = Duration::from_millis(800);

/// The table of all keys.
pub(super) const TABLE: TableId = TableId(100);

/// What gateways tell each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mail {
    /// A change is announced, or made: look at the store, and say when nothing can commit beyond the fence any more.
    Publish {
        /// Which.
        change: u64,
    },
    /// It is so.
    Published {
        /// Which.
        change: u64,
    },
}

/// How far the index is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Index {
    Absent,
    WriteOnly,
    Public,
}

/// The stored catalog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) version: u64,
    /// When it takes effect.
    pub(super) valid_from: Timestamp,
    pub(super) index: Index,
    /// Counts indexes: the entries of each have a place of their own.
    pub(super) number: u64,
}

impl Record {
    pub(super) const FIRST: Record =
        Record { version: 1, valid_from: Timestamp::ZERO, index: Index::Absent, number: 0 };

    fn encode(self) -> Bytes {
        let index = match self.index {
            Index::Absent => 0,
            Index::WriteOnly => 1,
            Index::Public => 2,
        };
        let words = [self.version, self.valid_from.as_nanos(), index, self.number];
        words.into_iter().flat_map(u64::to_be_bytes).collect()
    }

    /// What is stored; where nothing is, the first version.
    pub(super) fn decode(stored: Option<&[u8]>) -> Record {
        let Some(stored) = stored else { return Record::FIRST };
        let index = match word(stored, 2) {
            0 => Index::Absent,
            1 => Index::WriteOnly,
            _ => Index::Public,
        };
        Record {
            version: word(stored, 0),
            valid_from: Timestamp::from_nanos(word(stored, 1)),
            index,
            number: word(stored, 3),
        }
    }

    /// The catalog as planners know it.
    fn snapshot(self, read_at: Timestamp) -> Arc<CatalogSnapshot> {
        let column = |id, name: &str| ColumnDesc {
            id: ColumnId(id),
            name: name.into(),
            ty: DataType::Text,
            nullable: false,
            refuses_null: false,
            default: None,
            identity: None,
            missing: None,
            hidden: false,
        };
        let index = |id: u32, name: &str, column: u32, state| IndexDesc {
            id: IndexId(id),
            oid: 1_000 + id,
            name: name.into(),
            unique: id == 1,
            constraint_oid: None,
            columns: vec![IndexColumn { column: ColumnId(column), direction: Direction::Ascending }],
            storing: Vec::new(),
            predicate: None,
            expressions: Vec::new(),
            state,
            memo: Default::default(),
        };
        let id = 1 + u32::try_from(self.number).expect("a run makes few indexes");
        let secondary = match self.index {
            Index::Absent => None,
            Index::WriteOnly => Some(index(id, "by_value", 2, IndexState::WriteOnly)),
            Index::Public => Some(index(id, "by_value", 2, IndexState::Public)),
        };
        let table = TableDesc {
            id: TABLE,
            storage: TABLE,
            schema: SchemaId(1),
            name: "rows".into(),
            owner: "root".into(),
            columns: vec![column(1, "key"), column(2, "value")],
            primary: index(1, "rows_pkey", 1, IndexState::Public),
            indexes: secondary.into_iter().collect(),
            checks: Vec::new(),
            interleave: None,
            storage_parameters: Vec::new(),
            next_column: 3,
            next_index: id + 1,
            version: self.version,
            valid_from: self.valid_from,
            dropped_at: None,
        };
        Arc::new(CatalogSnapshot::new(self.version, read_at, [], [], [table]))
    }
}

fn word(bytes: &[u8], i: usize) -> u64 {
    u64::from_be_bytes(bytes[8 * i..8 * i + 8].try_into().expect("a record has four words"))
}

/// Where the catalog's record is.
pub(super) fn record_key() -> Key {
    Key::copy_from(b"c0")
}

/// Where the fence is.
fn fence_key() -> Key {
    Key::copy_from(b"c1")
}

/// Where the entry of a value is.
fn entry_key(number: u64, value: &[u8]) -> Key {
    let mut key = format!("i{number:04}/").into_bytes();
    key.extend_from_slice(value);
    Key::new(key)
}

/// The entries of an index.
pub(super) fn entries_of(number: u64) -> Span {
    let (start, end) = (entry_key(number, b""), entry_key(number + 1, b""));
    Span::new(start, Some(end))
}

/// What a transaction that was planned on a snapshot does to the index as it replaces the value of a row.
pub(super) struct Maintenance {
    pub(super) number: u64,
    pub(super) state: IndexState,
}

impl Maintenance {
    /// Of the index in a snapshot, if it has one.
    pub(super) fn of(snapshot: &CatalogSnapshot) -> Option<Maintenance> {
        let index = snapshot.table(TABLE)?.indexes.first()?;
        Some(Maintenance { number: u64::from(index.id.0) - 1, state: index.state })
    }

    /// The entry that goes, and the one that comes.
    pub(super) fn entries(&self, old: Option<&Bytes>, new: &Bytes) -> (Option<Key>, Key) {
        (old.map(|old| entry_key(self.number, old)), entry_key(self.number, new))
    }
}
