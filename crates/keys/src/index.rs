//! Keys of rows and index entries, with interleaving.
//!
//! ```text
//!   80 10 01 | 21 07                        singers(7)
//!   80 10 01 | 21 07 | 05 11 01 | 21 01     albums(7, 1)          interleaved in singers
//!   80 10 01 | 21 07 | 05 11 01 | 21 01 | 05 12 01 | 21 03        songs(7, 1, 3)
//!   80 10 01 | 21 07 | 05 11 01 | 21 02     albums(7, 2)
//!   80 10 01 | 21 08                        singers(8)
//!   80 11 02 | 40 .. | 21 07 21 01          albums_by_title, an index that is not interleaved
//! ```
//! A row's key is a prefix of its descendants' keys, so [`meridian_types::Span::prefix`] of it is the row with all of
//! them, and [`meridian_types::Span::point`] the row alone.

use meridian_types::{Key, Span};

use crate::{IndexId, KeyBuilder, KeyError, KeyReader, TableId};

/// First byte of user data.
const USER: u8 = 0x80;

/// Between a parent's primary key and a child's table id. Below every column tag of either direction.
pub const CHILD_MARKER: u8 = 0x05;

/// The span of all user data.
pub fn user_span() -> Span {
    Span::prefix(&Key::copy_from(&[USER]))
}

/// The span of a root table with all its indexes, and of everything interleaved in it. A child table's rows lie in its
/// root's span; its own span holds its indexes that are not interleaved.
pub fn table_span(table: TableId) -> Span {
    let mut key = KeyBuilder::with_capacity(10);
    key.push_raw(&[USER]);
    key.push_id(table.get());
    Span::prefix(&key.finish())
}

/// The span of one index that is not interleaved.
pub fn index_span(table: TableId, index: IndexId) -> Span {
    Span::prefix(&KeyBuilder::index(table, index).finish())
}

impl KeyBuilder {
    /// Starts a key of an index (the primary one for rows); its columns follow.
    pub fn index(table: TableId, index: IndexId) -> KeyBuilder {
        let mut key = KeyBuilder::with_capacity(40);
        key.push_raw(&[USER]);
        key.push_id(table.get());
        key.push_id(u64::from(index.get()));
        key
    }

    /// After a parent's full primary key, goes down to an index of a child table; its further columns follow.
    pub fn push_child(&mut self, table: TableId, index: IndexId) {
        assert!(self.as_bytes().first() == Some(&USER), "a child was put below a key that is not a row's");
        self.push_raw(&[CHILD_MARKER]);
        self.push_id(table.get());
        self.push_id(u64::from(index.get()));
    }
}

/// A row's key taken apart down to its first column.
#[derive(Clone, Debug)]
pub struct IndexKey<'a> {
    /// The root table.
    pub table: TableId,
    /// Its index.
    pub index: IndexId,
    /// What follows: columns, then possibly children (see [`KeyReader::read_child`]).
    pub columns: KeyReader<'a>,
}

impl<'a> IndexKey<'a> {
    /// Takes a key of user data apart.
    pub fn parse(key: &'a [u8]) -> Result<Self, KeyError> {
        let mut columns = KeyReader::new(key);
        match columns.take(1)?[0] {
            USER => {}
            tag => return Err(KeyError::UnexpectedTag { at: 0, tag }),
        }
        let table = TableId::new(columns.read_id()?);
        let index = columns.read_index_id()?;
        Ok(IndexKey { table, index, columns })
    }
}

impl KeyReader<'_> {
    /// After a full primary key: consumes a child marker where one comes next, and says which index of which child
    /// table's columns follow. `None` at the end of the key, that is, when the key is the row's own.
    pub fn read_child(&mut self) -> Result<Option<(TableId, IndexId)>, KeyError> {
        match self.rest().first() {
            None => Ok(None),
            Some(&CHILD_MARKER) => {
                self.take(1)?;
                let table = TableId::new(self.read_id()?);
                Ok(Some((table, self.read_index_id()?)))
            }
            Some(&tag) => Err(KeyError::UnexpectedTag { at: self.position(), tag }),
        }
    }

    fn read_index_id(&mut self) -> Result<IndexId, KeyError> {
        let at = self.position();
        let id = u32::try_from(self.read_id()?).map_err(|_| KeyError::Malformed { at })?;
        Ok(IndexId::new(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Direction, KeyValue, Nulls};

    const ASC: Direction = Direction::Ascending;

    fn row(path: &[(u64, &[i64])]) -> Key {
        let mut key = KeyBuilder::index(TableId::new(path[0].0), IndexId::PRIMARY);
        for (depth, (table, columns)) in path.iter().enumerate() {
            if depth > 0 {
                key.push_child(TableId::new(*table), IndexId::PRIMARY);
            }
            columns.iter().for_each(|c| key.push_int(*c, ASC));
        }
        key.finish()
    }

    #[test]
    fn golden_bytes_of_interleaved_rows() {
        let song = row(&[(16, &[7]), (300, &[1]), (18, &[-3])]);
        let golden = b"\x80\x10\x01\x21\x07\x05\xf9\x01\x2c\x01\x21\x01\x05\x12\x01\x1e\xfd";
        assert_eq!(song.as_bytes(), golden);
    }

    #[test]
    fn children_sort_directly_after_their_parents_row() {
        let in_order = [
            row(&[(16, &[6]), (17, &[i64::MAX])]),
            row(&[(16, &[7])]),
            row(&[(16, &[7]), (17, &[i64::MIN])]),
            row(&[(16, &[7]), (17, &[1])]),
            row(&[(16, &[7]), (17, &[1]), (18, &[3])]),
            row(&[(16, &[7]), (17, &[2])]),
            row(&[(16, &[7]), (300, &[0])]),
            row(&[(16, &[8])]),
            row(&[(17, &[0])]),
        ];
        assert!(in_order.is_sorted(), "{in_order:?}");
        let family = Span::prefix(&in_order[1]);
        let inside: Vec<bool> = in_order.iter().map(|k| family.contains(k.as_bytes())).collect();
        assert_eq!(inside, [false, true, true, true, true, true, true, false, false]);
        assert!(in_order[..8].iter().all(|k| table_span(TableId::new(16)).contains(k.as_bytes())));
        assert!(!table_span(TableId::new(16)).contains(in_order[8].as_bytes()));
    }

    #[test]
    fn the_child_marker_is_below_every_column() {
        let mut parent = KeyBuilder::index(TableId::new(16), IndexId::PRIMARY);
        parent.push_int(7, ASC);
        let mut child = parent.clone();
        child.push_child(TableId::new(u64::MAX), IndexId::new(u32::MAX));
        let values = [KeyValue::Null, KeyValue::Bool(false), KeyValue::Int(i64::MIN), KeyValue::Uuid(0)];
        for value in values {
            for direction in [Direction::Ascending, Direction::Descending] {
                for nulls in [Nulls::First, Nulls::Last] {
                    let mut longer = parent.clone();
                    longer.push_value(&value, direction, nulls);
                    assert!(child.as_bytes() < longer.as_bytes(), "{value:?} {direction:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_taken_apart() {
        let key = row(&[(16, &[7, 8]), (300, &[1])]);
        let IndexKey { table, index, mut columns } = IndexKey::parse(key.as_bytes()).unwrap();
        assert_eq!((table, index), (TableId::new(16), IndexId::PRIMARY));
        assert_eq!(columns.read_int(ASC), Ok(7));
        columns.skip_value(ASC).unwrap();
        assert_eq!(columns.read_child(), Ok(Some((TableId::new(300), IndexId::PRIMARY))));
        assert_eq!(columns.read_int(ASC), Ok(1));
        assert_eq!(columns.read_child(), Ok(None));
        assert!(IndexKey::parse(b"\x08\x01").is_err());
        assert!(IndexKey::parse(b"\x80\x10\x01\x21\x07").unwrap().columns.read_child().is_err());
    }
}
