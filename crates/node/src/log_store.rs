//! The Paxos log of a node on disk: encoding, and reading it back.
//!
//! | key | record |
//! |---|---|
//! | `keys::local::hard_state` | ballot promised, lease vote, commit |
//! | `keys::local::log_truncated` | slot |
//! | `keys::local::log_removed` | generation of a descriptor |
//! | `keys::local::log_entry` | ballot, kind, content |
//!
//! A record is `crc32c(key, body)` in four bytes, then the body, whose first byte is [`FORMAT`]. The checksum covers the
//! key, so that a record in a wrong place is found too. Numbers are fixed-width and little-endian.

use bytes::{BufMut, Bytes};
use meridian_keys::local;
use meridian_paxos::{Command, HardState, LogEntry, MemberKind, Membership, Persist};
use meridian_storage::{Durability, Engine, Family, StorageError, WriteBatch};
use meridian_types::{Ballot, GroupId, NodeId, Slot, Span, Timestamp};

/// Version of the encoding.
const FORMAT: u8 = 1;

const NOOP: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// What the log engine knows of one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LogState {
    pub(crate) hard: HardState,
    pub(crate) truncated: Slot,
    pub(crate) entries: Vec<LogEntry>,
}

/// Appends the writes of one step to a batch.
pub(crate) fn push(batch: &mut WriteBatch, group: GroupId, persist: Vec<Persist>) {
    for item in persist {
        match item {
            Persist::HardState(hard) => put(batch, local::hard_state(group), |b| put_hard(b, &hard)),
            Persist::Entries(entries) => {
                for entry in entries {
                    put(batch, local::log_entry(group, entry.slot), |b| put_entry(b, &entry));
                }
            }
            Persist::Truncate(slot) => {
                batch.delete_span(Family::Log, local::log_entries(group, Slot::ZERO, Some(slot.next())));
                put(batch, local::log_truncated(group), |b| b.put_u64_le(slot.get()));
            }
        }
    }
}

fn put(batch: &mut WriteBatch, key: Bytes, body: impl FnOnce(&mut Vec<u8>)) {
    let mut record = Vec::with_capacity(64);
    record.put_u32_le(0);
    record.put_u8(FORMAT);
    body(&mut record);
    let sum = checksum(&key, &record[4..]);
    record[..4].copy_from_slice(&sum.to_le_bytes());
    batch.put(Family::Log, key, record);
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

fn put_ballot(b: &mut Vec<u8>, ballot: Ballot) {
    b.put_u64_le(ballot.round);
    b.put_u32_le(ballot.node.get());
}

fn put_hard(b: &mut Vec<u8>, hard: &HardState) {
    put_ballot(b, hard.promised);
    b.put_u64_le(hard.commit.get());
    if let Some((ballot, end)) = hard.vote {
        put_ballot(b, ballot);
        b.put_u64_le(end.as_nanos());
    }
}

fn put_entry(b: &mut Vec<u8>, entry: &LogEntry) {
    put_ballot(b, entry.ballot);
    match &entry.command {
        Command::Noop => b.put_u8(NOOP),
        Command::Normal(bytes) => {
            b.reserve(1 + bytes.len());
            b.put_u8(NORMAL);
            b.put_slice(bytes);
        }
        Command::Membership(membership) => {
            b.put_u8(MEMBERSHIP);
            for (node, kind) in &membership.members {
                b.put_u32_le(node.get());
                b.put_u8(match kind {
                    MemberKind::Voter => 0,
                    MemberKind::ReadOnly => 1,
                    MemberKind::Witness => 2,
                    MemberKind::Observer => 3,
                });
            }
        }
    }
}

/// Reads what is left of a record.
struct Body(Bytes);

impl Body {
    /// Checks the checksum and the format of the record at `key`.
    fn open(key: &[u8], record: Bytes) -> Option<Body> {
        let (sum, body) = record.split_first_chunk::<4>()?;
        let is_sound = u32::from_le_bytes(*sum) == checksum(key, body) && body.first() == Some(&FORMAT);
        is_sound.then(|| Body(record.slice(5..)))
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, _) = self.0.split_first()?;
        let value = *first;
        self.0 = self.0.slice(1..);
        Some(value)
    }

    fn u32(&mut self) -> Option<u32> {
        let value = u32::from_le_bytes(*self.0.first_chunk()?);
        self.0 = self.0.slice(4..);
        Some(value)
    }

    fn u64(&mut self) -> Option<u64> {
        let value = u64::from_le_bytes(*self.0.first_chunk()?);
        self.0 = self.0.slice(8..);
        Some(value)
    }

    fn ballot(&mut self) -> Option<Ballot> {
        Some(Ballot::new(self.u64()?, NodeId::new(self.u32()?)))
    }

    fn hard(mut self) -> Option<HardState> {
        let promised = self.ballot()?;
        let commit = Slot::new(self.u64()?);
        let vote =
            if self.0.is_empty() { None } else { Some((self.ballot()?, Timestamp::from_nanos(self.u64()?))) };
        self.0.is_empty().then_some(HardState { promised, vote, commit })
    }

    fn slot(mut self) -> Option<Slot> {
        let slot = Slot::new(self.u64()?);
        self.0.is_empty().then_some(slot)
    }

    fn generation(mut self) -> Option<u64> {
        let generation = self.u64()?;
        self.0.is_empty().then_some(generation)
    }

    fn entry(mut self, slot: Slot) -> Option<LogEntry> {
        let ballot = self.ballot()?;
        let command = match self.u8()? {
            NOOP => self.0.is_empty().then_some(Command::Noop)?,
            NORMAL => Command::Normal(self.0),
            MEMBERSHIP => {
                let mut members = Vec::new();
                while !self.0.is_empty() {
                    let node = NodeId::new(self.u32()?);
                    let kind = match self.u8()? {
                        0 => MemberKind::Voter,
                        1 => MemberKind::ReadOnly,
                        2 => MemberKind::Witness,
                        3 => MemberKind::Observer,
                        _ => return None,
                    };
                    members.push((node, kind));
                }
                Command::Membership(Membership { members })
            }
            _ => return None,
        };
        Some(LogEntry { slot, ballot, command })
    }
}

fn corrupt(key: &[u8]) -> StorageError {
    StorageError::Corruption { detail: format!("log record at {}", key.escape_ascii()) }
}

fn read<T>(
    engine: &dyn Engine,
    key: &[u8],
    decode: impl FnOnce(Body) -> Option<T>,
) -> Result<Option<T>, StorageError> {
    let Some(record) = engine.get(Family::Log, key)? else { return Ok(None) };
    Body::open(key, record).and_then(decode).map(Some).ok_or_else(|| corrupt(key))
}

/// Forgets the entries of a group whose replica goes. The promise and the vote stay: should the node become a member
/// again, they bind it as before. What was known as chosen goes with the entries. The generation is that of a descriptor
/// without the node: what was accepted up to there is forgotten, so nothing older may begin here again.
pub(crate) fn forget(engine: &dyn Engine, group: GroupId, generation: u64) -> Result<(), StorageError> {
    let hard = read(engine, &local::hard_state(group), Body::hard)?.unwrap_or_default();
    let generation = generation.max(removed_at(engine, group)?);
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::Log, local::log_entries(group, Slot::ZERO, None));
    batch.delete(Family::Log, local::log_truncated(group));
    push(&mut batch, group, vec![Persist::HardState(HardState { commit: Slot::ZERO, ..hard })]);
    put(&mut batch, local::log_removed(group), |b| b.put_u64_le(generation));
    engine.write(batch, Durability::Synced)
}

/// The generation by which this node left a group; zero where it never did.
pub(crate) fn removed_at(engine: &dyn Engine, group: GroupId) -> Result<u64, StorageError> {
    Ok(read(engine, &local::log_removed(group), Body::generation)?.unwrap_or_default())
}

/// The slot after which the log of a group begins.
pub(crate) fn truncated(engine: &dyn Engine, group: GroupId) -> Result<Slot, StorageError> {
    Ok(read(engine, &local::log_truncated(group), Body::slot)?.unwrap_or_default())
}

/// Reads every record of every group.
pub(crate) fn verify(engine: &dyn Engine) -> Result<(), StorageError> {
    let mut cursor = engine.cursor(Family::Log, &Span::ALL);
    let mut more = cursor.first()?;
    while more {
        let key = cursor.key();
        Body::open(key, Bytes::copy_from_slice(cursor.value())).ok_or_else(|| corrupt(key))?;
        more = cursor.next()?;
    }
    Ok(())
}

/// Reads everything of one group.
pub(crate) fn load(engine: &dyn Engine, group: GroupId) -> Result<LogState, StorageError> {
    let hard = read(engine, &local::hard_state(group), Body::hard)?.unwrap_or_default();
    let truncated = truncated(engine, group)?;
    let mut entries = Vec::new();
    let mut cursor = engine.cursor(Family::Log, &local::log_entries(group, truncated.next(), None));
    let mut more = cursor.first()?;
    while more {
        let key = cursor.key();
        let (_, slot) = local::decode_log_entry(key).map_err(|_| corrupt(key))?;
        let record = Bytes::copy_from_slice(cursor.value());
        let entry = Body::open(key, record).and_then(|body| body.entry(slot)).ok_or_else(|| corrupt(key))?;
        entries.push(entry);
        more = cursor.next()?;
    }
    Ok(LogState { hard, truncated, entries })
}

#[cfg(test)]
mod tests {
    use meridian_storage::{MemoryEngine, Reader};

    use super::*;

    const GROUP: GroupId = GroupId::new(7);

    fn ballot(round: u64) -> Ballot {
        Ballot::new(round, NodeId::new(2))
    }

    fn entry(slot: u64, command: Command) -> LogEntry {
        LogEntry { slot: Slot::new(slot), ballot: ballot(slot), command }
    }

    fn write(engine: &MemoryEngine, persist: Vec<Persist>) {
        let mut batch = WriteBatch::new();
        push(&mut batch, GROUP, persist);
        engine.write(batch, Durability::Synced).unwrap();
    }

    #[test]
    fn what_was_written_is_read_back() {
        let engine = MemoryEngine::new();
        assert_eq!(load(&engine, GROUP).unwrap(), LogState::default());
        let members = vec![(NodeId::new(1), MemberKind::Voter), (NodeId::new(3), MemberKind::Witness)];
        let entries = vec![
            entry(1, Command::Noop),
            entry(2, Command::Normal(Bytes::from_static(b"payload"))),
            entry(4, Command::Membership(Membership { members })),
            entry(5, Command::Normal(Bytes::new())),
        ];
        let vote = Some((ballot(9), Timestamp::from_nanos(55)));
        let hard = HardState { promised: ballot(9), vote, commit: Slot::new(4) };
        write(&engine, vec![Persist::Entries(entries.clone()), Persist::HardState(hard.clone())]);
        let loaded = load(&engine, GROUP).unwrap();
        assert_eq!(loaded, LogState { hard, truncated: Slot::ZERO, entries });
        assert_eq!(load(&engine, GroupId::new(8)).unwrap(), LogState::default(), "groups are apart");
    }

    #[test]
    fn truncation_removes_entries_and_a_later_accept_replaces_one() {
        let engine = MemoryEngine::new();
        let entries = (1..=5).map(|s| entry(s, Command::Noop)).collect();
        write(&engine, vec![Persist::Entries(entries), Persist::Truncate(Slot::new(3))]);
        let replaced = LogEntry { ballot: ballot(50), ..entry(5, Command::Noop) };
        write(&engine, vec![Persist::Entries(vec![replaced.clone()])]);
        let loaded = load(&engine, GROUP).unwrap();
        assert_eq!(loaded.truncated, Slot::new(3));
        assert_eq!(loaded.entries, [entry(4, Command::Noop), replaced]);
    }

    #[test]
    fn forgetting_keeps_the_promise_and_by_which_generation_the_node_left() {
        let engine = MemoryEngine::new();
        let vote = Some((ballot(9), Timestamp::from_nanos(55)));
        let hard = HardState { promised: ballot(9), vote, commit: Slot::new(2) };
        let entries = vec![entry(1, Command::Noop), entry(2, Command::Noop)];
        write(
            &engine,
            vec![Persist::Entries(entries), Persist::HardState(hard), Persist::Truncate(Slot::new(1))],
        );
        assert_eq!(removed_at(&engine, GROUP).unwrap(), 0);
        forget(&engine, GROUP, 5).unwrap();
        let hard = HardState { promised: ballot(9), vote, commit: Slot::ZERO };
        let expected = LogState { hard, truncated: Slot::ZERO, entries: vec![] };
        assert_eq!(load(&engine, GROUP).unwrap(), expected);
        assert_eq!(removed_at(&engine, GROUP).unwrap(), 5);
        forget(&engine, GROUP, 4).unwrap();
        assert_eq!(removed_at(&engine, GROUP).unwrap(), 5, "an erasure that is made up for does not go back");
    }

    /// Persisted formats are frozen.
    #[test]
    fn golden_bytes() {
        let mut batch = WriteBatch::new();
        push(
            &mut batch,
            GROUP,
            vec![Persist::Entries(vec![entry(3, Command::Normal(Bytes::from_static(b"x")))])],
        );
        let meridian_storage::Mutation::Put { value, .. } = &batch.mutations()[0] else {
            panic!("an entry is a put");
        };
        assert_eq!(&value[4..], b"\x01\x03\0\0\0\0\0\0\0\x02\0\0\0\x01x");
    }

    #[test]
    fn a_flipped_bit_and_a_record_in_the_wrong_place_are_corruption() {
        let engine = MemoryEngine::new();
        write(&engine, vec![Persist::Entries(vec![entry(3, Command::Noop)])]);
        let key = local::log_entry(GROUP, Slot::new(3));
        let good = engine.get(Family::Log, &key).unwrap().unwrap();
        let put = |key: Bytes, value: Vec<u8>| {
            let mut batch = WriteBatch::new();
            batch.put(Family::Log, key, value);
            engine.write(batch, Durability::Synced).unwrap();
        };
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            put(key.clone(), bad);
            assert!(load(&engine, GROUP).is_err(), "byte {at} was changed");
            assert!(verify(&engine).is_err(), "byte {at} was changed");
        }
        put(key.clone(), good.to_vec());
        assert!(load(&engine, GROUP).is_ok());
        assert!(verify(&engine).is_ok());
        put(local::log_entry(GROUP, Slot::new(4)), good.to_vec());
        assert!(load(&engine, GROUP).is_err());
    }
}
