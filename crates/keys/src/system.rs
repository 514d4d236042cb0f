//! Keys of the reserved `meridian` keyspace: what the cluster knows about itself.

use meridian_types::{FolderId, Key, NodeId, Span, Timestamp};

use crate::{ColumnId, DescriptorId, Direction, JobId, KeyBuilder, KeyError, KeyReader, TableId};

/// First byte of the system keyspace.
const SYSTEM: u8 = 0x08;

const META: u8 = 0x01;
const NODE: u8 = 0x02;
const DESCRIPTOR: u8 = 0x03;
const NAME: u8 = 0x04;
const CATALOG_VERSION: u8 = 0x05;
const JOB: u8 = 0x06;
const SETTING: u8 = 0x07;
const COUNTER: u8 = 0x08;
const PLACEMENT: u8 = 0x09;
const ROLE: u8 = 0x0a;
const STATISTICS: u8 = 0x0b;
const SEQUENCE: u8 = 0x0c;
const CATALOG_FENCE: u8 = 0x0d;
const FOLDER: u8 = 0x0e;
const ADVISORY_LOCK: u8 = 0x0f;
const LOCK_HOLDER: u8 = 0x10;

/// An advisory lock named by one number.
const ONE_NUMBER: u8 = 0x01;
/// By two.
const TWO_NUMBERS: u8 = 0x02;

/// A shard that ends at a key.
const META_FINITE: u8 = 0x01;
/// The shard that ends at infinity.
const META_INFINITE: u8 = 0x02;

/// An allocator of ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Counter {
    /// Of groups.
    Group = 1,
    /// Of nodes.
    Node = 2,
    /// Of descriptors.
    Descriptor = 3,
    /// Of jobs.
    Job = 4,
}

/// How clients name an advisory lock. The two ways never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AdvisoryId {
    /// By one number.
    One(i64),
    /// By two.
    Two(i32, i32),
}

/// An advisory lock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AdvisoryKey {
    /// In which database.
    pub database: DescriptorId,
    /// Which.
    pub id: AdvisoryId,
}

/// A key of the system keyspace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SystemKey {
    /// The shard whose span ends at `end` (`None`: at infinity). Keyed by the end, so that one forward seek from a key
    /// finds the shard that holds it.
    Meta {
        /// The first key beyond the shard.
        end: Option<Key>,
    },
    /// A node's record.
    Node(NodeId),
    /// A descriptor; older ones are its older versions.
    Descriptor(DescriptorId),
    /// A name within a parent (a database for schemas, a schema for tables; 0 for databases).
    Name {
        /// The parent.
        parent: DescriptorId,
        /// The name.
        name: String,
    },
    /// Grows with every change of the catalog.
    CatalogVersion,
    /// A job.
    Job(JobId),
    /// A cluster setting.
    Setting(String),
    /// An id allocator.
    Counter(Counter),
    /// A placement policy.
    Placement(String),
    /// A SQL role.
    Role(String),
    /// What ANALYZE found out about a column; column 0 is the table itself.
    Statistics {
        /// The table.
        table: TableId,
        /// The column.
        column: ColumnId,
    },
    /// A SQL sequence's state.
    Sequence(DescriptorId),
    /// When the next version of the catalog shall take effect: nothing planned on an earlier one commits from then on.
    CatalogFence,
    /// The node that a data folder belongs to.
    Folder(FolderId),
    /// Who has an advisory lock, and who waits for it.
    AdvisoryLock(AdvisoryKey),
    /// Until when an incarnation of a node has its sessions' advisory locks.
    LockHolder {
        /// The node.
        node: NodeId,
        /// When the incarnation began.
        start: Timestamp,
    },
}

/// The span of the whole system keyspace.
pub fn system_span() -> Span {
    Span::prefix(&Key::copy_from(&[SYSTEM]))
}

/// The span of the shard map.
pub fn meta_span() -> Span {
    Span::prefix(&Key::copy_from(&[SYSTEM, META]))
}

/// The part of the shard map whose first entry is the shard that holds `key`: the one with the least end beyond it.
pub fn meta_lookup_span(key: &Key) -> Span {
    let start = SystemKey::Meta { end: Some(key.clone()) }.encode().next();
    Span { start, end: meta_span().end }
}

impl SystemKey {
    /// The key's bytes.
    pub fn encode(&self) -> Key {
        let mut key = KeyBuilder::with_capacity(24);
        let asc = Direction::Ascending;
        key.push_raw(&[SYSTEM, self.kind()]);
        match self {
            // The end key is last and thus needs no terminator; raw bytes keep its order.
            SystemKey::Meta { end: Some(end) } => {
                key.push_raw(&[META_FINITE]);
                key.push_raw(end.as_bytes());
            }
            SystemKey::Meta { end: None } => key.push_raw(&[META_INFINITE]),
            SystemKey::Node(id) => key.push_id(u64::from(id.get())),
            SystemKey::Descriptor(id) | SystemKey::Sequence(id) => key.push_id(id.get()),
            SystemKey::Name { parent, name } => {
                key.push_id(parent.get());
                key.push_bytes(name.as_bytes(), asc);
            }
            SystemKey::CatalogVersion | SystemKey::CatalogFence => {}
            SystemKey::Folder(folder) => key.push_raw(&folder.get().to_be_bytes()),
            SystemKey::Job(id) => key.push_id(id.get()),
            SystemKey::Setting(name) | SystemKey::Placement(name) | SystemKey::Role(name) => {
                key.push_bytes(name.as_bytes(), asc);
            }
            SystemKey::AdvisoryLock(AdvisoryKey { database, id }) => {
                key.push_id(database.get());
                match id {
                    AdvisoryId::One(n) => {
                        key.push_raw(&[ONE_NUMBER]);
                        key.push_raw(&n.to_be_bytes());
                    }
                    AdvisoryId::Two(a, b) => {
                        key.push_raw(&[TWO_NUMBERS]);
                        key.push_raw(&a.to_be_bytes());
                        key.push_raw(&b.to_be_bytes());
                    }
                }
            }
            SystemKey::LockHolder { node, start } => {
                key.push_id(u64::from(node.get()));
                key.push_raw(&start.as_nanos().to_be_bytes());
            }
            SystemKey::Counter(counter) => key.push_id(*counter as u64),
            SystemKey::Statistics { table, column } => {
                key.push_id(table.get());
                key.push_id(u64::from(column.get()));
            }
        }
        key.finish()
    }

    /// The key that the bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut r = KeyReader::new(bytes);
        let (space, kind) = (r.take(1)?[0], r.take(1)?[0]);
        if space != SYSTEM {
            return Err(KeyError::UnexpectedTag { at: 0, tag: space });
        }
        let key = match kind {
            META => read_meta(&mut r)?,
            NODE => SystemKey::Node(NodeId::new(read_u32(&mut r)?)),
            DESCRIPTOR => SystemKey::Descriptor(DescriptorId::new(r.read_id()?)),
            NAME => SystemKey::Name { parent: DescriptorId::new(r.read_id()?), name: read_text(&mut r)? },
            CATALOG_VERSION => SystemKey::CatalogVersion,
            CATALOG_FENCE => SystemKey::CatalogFence,
            FOLDER => {
                let raw = r.take(16)?.try_into().expect("sixteen bytes were taken");
                SystemKey::Folder(FolderId::new(u128::from_be_bytes(raw)))
            }
            ADVISORY_LOCK => {
                let database = DescriptorId::new(r.read_id()?);
                SystemKey::AdvisoryLock(AdvisoryKey { database, id: read_advisory_id(&mut r)? })
            }
            LOCK_HOLDER => {
                let node = NodeId::new(read_u32(&mut r)?);
                let raw = r.take(8)?.try_into().expect("eight bytes were taken");
                SystemKey::LockHolder { node, start: Timestamp::from_nanos(u64::from_be_bytes(raw)) }
            }
            JOB => SystemKey::Job(JobId::new(r.read_id()?)),
            SETTING => SystemKey::Setting(read_text(&mut r)?),
            COUNTER => SystemKey::Counter(read_counter(&mut r)?),
            PLACEMENT => SystemKey::Placement(read_text(&mut r)?),
            ROLE => SystemKey::Role(read_text(&mut r)?),
            STATISTICS => SystemKey::Statistics {
                table: TableId::new(r.read_id()?),
                column: ColumnId::new(read_u32(&mut r)?),
            },
            SEQUENCE => SystemKey::Sequence(DescriptorId::new(r.read_id()?)),
            tag => return Err(KeyError::UnexpectedTag { at: 1, tag }),
        };
        r.expect_end()?;
        Ok(key)
    }

    /// The span of all node records.
    pub fn nodes() -> Span {
        kind_span(NODE)
    }

    /// The span of all descriptors.
    pub fn descriptors() -> Span {
        kind_span(DESCRIPTOR)
    }

    /// The span of all names.
    pub fn names() -> Span {
        kind_span(NAME)
    }

    /// The span of all jobs.
    pub fn jobs() -> Span {
        kind_span(JOB)
    }

    /// The span of all settings.
    pub fn settings() -> Span {
        kind_span(SETTING)
    }

    /// The span of all placement policies.
    pub fn placements() -> Span {
        kind_span(PLACEMENT)
    }

    /// The span of all roles.
    pub fn roles() -> Span {
        kind_span(ROLE)
    }

    /// The span of a table's statistics.
    pub fn statistics(table: TableId) -> Span {
        let mut key = KeyBuilder::new();
        key.push_raw(&[SYSTEM, STATISTICS]);
        key.push_id(table.get());
        Span::prefix(&key.finish())
    }

    /// The span of the statistics of all tables.
    pub fn all_statistics() -> Span {
        kind_span(STATISTICS)
    }

    /// The span of all cluster settings.
    pub fn all_settings() -> Span {
        kind_span(SETTING)
    }

    /// The span of all roles.
    pub fn all_roles() -> Span {
        kind_span(ROLE)
    }

    /// The span of all advisory locks.
    pub fn advisory_locks() -> Span {
        kind_span(ADVISORY_LOCK)
    }

    /// The span of all holders of advisory locks.
    pub fn lock_holders() -> Span {
        kind_span(LOCK_HOLDER)
    }

    fn kind(&self) -> u8 {
        match self {
            SystemKey::Meta { .. } => META,
            SystemKey::Node(_) => NODE,
            SystemKey::Descriptor(_) => DESCRIPTOR,
            SystemKey::Name { .. } => NAME,
            SystemKey::CatalogVersion => CATALOG_VERSION,
            SystemKey::Job(_) => JOB,
            SystemKey::Setting(_) => SETTING,
            SystemKey::Counter(_) => COUNTER,
            SystemKey::Placement(_) => PLACEMENT,
            SystemKey::Role(_) => ROLE,
            SystemKey::Statistics { .. } => STATISTICS,
            SystemKey::Sequence(_) => SEQUENCE,
            SystemKey::CatalogFence => CATALOG_FENCE,
            SystemKey::Folder(_) => FOLDER,
            SystemKey::AdvisoryLock(_) => ADVISORY_LOCK,
            SystemKey::LockHolder { .. } => LOCK_HOLDER,
        }
    }
}

fn kind_span(kind: u8) -> Span {
    Span::prefix(&Key::copy_from(&[SYSTEM, kind]))
}

fn read_meta(r: &mut KeyReader<'_>) -> Result<SystemKey, KeyError> {
    match r.take(1)?[0] {
        META_FINITE => {
            let end = r.take(r.rest().len())?;
            Ok(SystemKey::Meta { end: Some(Key::copy_from(end)) })
        }
        META_INFINITE => Ok(SystemKey::Meta { end: None }),
        tag => Err(KeyError::UnexpectedTag { at: 2, tag }),
    }
}

fn read_advisory_id(r: &mut KeyReader<'_>) -> Result<AdvisoryId, KeyError> {
    let four = |r: &mut KeyReader<'_>| {
        Ok::<_, KeyError>(i32::from_be_bytes(r.take(4)?.try_into().expect("four bytes were taken")))
    };
    match r.take(1)?[0] {
        ONE_NUMBER => {
            let raw = r.take(8)?.try_into().expect("eight bytes were taken");
            Ok(AdvisoryId::One(i64::from_be_bytes(raw)))
        }
        TWO_NUMBERS => Ok(AdvisoryId::Two(four(r)?, four(r)?)),
        tag => Err(KeyError::UnexpectedTag { at: r.position() - 1, tag }),
    }
}

fn read_u32(r: &mut KeyReader<'_>) -> Result<u32, KeyError> {
    let at = r.position();
    u32::try_from(r.read_id()?).map_err(|_| KeyError::Malformed { at })
}

fn read_text(r: &mut KeyReader<'_>) -> Result<String, KeyError> {
    let at = r.position();
    String::from_utf8(r.read_bytes(Direction::Ascending)?).map_err(|_| KeyError::Malformed { at })
}

fn read_counter(r: &mut KeyReader<'_>) -> Result<Counter, KeyError> {
    let at = r.position();
    let counters = [Counter::Group, Counter::Node, Counter::Descriptor, Counter::Job];
    let id = r.read_id()?;
    counters.into_iter().find(|c| *c as u64 == id).ok_or(KeyError::Malformed { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(end: &[u8]) -> SystemKey {
        SystemKey::Meta { end: Some(Key::copy_from(end)) }
    }

    #[test]
    fn golden_bytes_and_round_trip() {
        let id = DescriptorId::new(300);
        let table = TableId::new(7);
        let lock = |id| SystemKey::AdvisoryLock(AdvisoryKey { database: DescriptorId::new(1), id });
        let cases: [(SystemKey, &[u8]); 19] = [
            (meta(b"\x80\x10"), b"\x08\x01\x01\x80\x10"),
            (SystemKey::Meta { end: None }, b"\x08\x01\x02"),
            (SystemKey::Node(NodeId::new(3)), b"\x08\x02\x03"),
            (SystemKey::Descriptor(id), b"\x08\x03\xf9\x01\x2c"),
            (SystemKey::Name { parent: id, name: "t".into() }, b"\x08\x04\xf9\x01\x2c\x40t\x00"),
            (SystemKey::CatalogVersion, b"\x08\x05"),
            (SystemKey::Job(JobId::new(9)), b"\x08\x06\x09"),
            (SystemKey::Setting("a.b".into()), b"\x08\x07\x40a.b\x00"),
            (SystemKey::Counter(Counter::Group), b"\x08\x08\x01"),
            (SystemKey::Counter(Counter::Job), b"\x08\x08\x04"),
            (SystemKey::Placement("eu".into()), b"\x08\x09\x40eu\x00"),
            (SystemKey::Role("me".into()), b"\x08\x0a\x40me\x00"),
            (SystemKey::Statistics { table, column: ColumnId::new(2) }, b"\x08\x0b\x07\x02"),
            (SystemKey::Sequence(id), b"\x08\x0c\xf9\x01\x2c"),
            (SystemKey::CatalogFence, b"\x08\x0d"),
            (SystemKey::Folder(FolderId::new(5)), b"\x08\x0e\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05"),
            (lock(AdvisoryId::One(-2)), b"\x08\x0f\x01\x01\xff\xff\xff\xff\xff\xff\xff\xfe"),
            (lock(AdvisoryId::Two(1, -1)), b"\x08\x0f\x01\x02\0\0\0\x01\xff\xff\xff\xff"),
            (
                SystemKey::LockHolder { node: NodeId::new(3), start: Timestamp::from_nanos(258) },
                b"\x08\x10\x03\0\0\0\0\0\0\x01\x02",
            ),
        ];
        for (key, golden) in &cases {
            assert_eq!(key.encode().as_bytes(), *golden, "{key:?}");
            assert_eq!(SystemKey::decode(golden).as_ref(), Ok(key));
            assert!(system_span().contains(golden));
        }
        assert!(cases.iter().map(|(k, _)| k.encode()).is_sorted());
        assert!(SystemKey::decode(b"\x08\x05\x00").is_err(), "trailing bytes");
        assert!(SystemKey::decode(b"\x08\x7f").is_err(), "unknown kind");
    }

    #[test]
    fn the_first_meta_entry_from_a_key_is_its_shard() {
        let ends = [meta(b"\x80"), meta(b"\x80\x10"), meta(b"\x80\x10\x00"), SystemKey::Meta { end: None }];
        let lookup = |key: &[u8]| {
            let span = meta_lookup_span(&Key::copy_from(key));
            ends.iter().position(|end| span.contains(end.encode().as_bytes()))
        };
        assert_eq!(lookup(b""), Some(0));
        assert_eq!(lookup(b"\x7f\xff"), Some(0));
        assert_eq!(lookup(b"\x80"), Some(1), "a shard's end is not inside of it");
        assert_eq!(lookup(b"\x80\x10"), Some(2));
        assert_eq!(lookup(b"\x80\x10\x00"), Some(3));
        assert_eq!(lookup(b"\xff\xff"), Some(3));
    }
}
