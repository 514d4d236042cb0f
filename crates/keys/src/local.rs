//! Keys that stay on their node: the Paxos log and what a replica keeps beside its data. They are not versioned.
//!
//! `group`, `slot` are 8 bytes, `txn` is 20 (first start, node, sequence), `chunk` is 4, all big-endian, so that
//! they sort as numbers and that everything of one group is one span.
//!
//! | family | bytes | what | written |
//! |---|---|---|---|
//! | Log | `group 01` | [`hard_state`]: promised ballot, lease vote, membership | synced |
//! | Log | `group 02` | [`log_truncated`]: the slot below which the log is gone | synced |
//! | Log | `group 03` | [`log_removed`]: the generation of the descriptor by which the node left the group | synced |
//! | Log | `group 10 slot` | [`log_entry`]: an accepted entry | synced |
//! | State | `group 01` | [`applied`]: the slot whose effects are in State, Staged and Data | with those effects |
//! | State | `group 02` | [`descriptor`]: the shard's descriptor | when applied |
//! | State | `group 03` | [`closed`]: no commit at or below this timestamp comes any more | when applied |
//! | State | `group 04` | [`last_commit`]: the greatest commit timestamp applied | when applied |
//! | State | `group 05` | [`gc_horizon`]: reads below it are refused | when applied |
//! | State | `group 06` | [`statistics`]: the shard's size, as applied | when applied |
//! | State | `group 07` | [`snapshot_state`]: a snapshot is being received | when it starts and ends |
//! | State | `group 08 table` | [`schema_barrier`]: a table's schema version change | when applied |
//! | State | `group 09` | [`dataless`]: the replica applies no data: a witness | when it is created |
//! | State | `group 10 txn` | [`prepared`]: a prepare record | when applied |
//! | State | `group 11 txn` | [`outcome`]: how a transaction ended | when applied |
//! | Staged | `group txn chunk` | [`staged`]: writes of an undecided transaction | when applied |
//! | Node | `01` | [`NODE_IDENTITY`]: cluster id, node id | when the node joins |
//! | Node | `02` | [`NODE_FORMAT`]: version of the disk format | when the folder is created |
//! | Node | `03` | [`NODE_INCARNATION`]: counts starts of the process | at start |
//! | Node | `04` | [`NODE_PEERS`]: the address book as last known | when it changes |
//! | Node | `05` | [`NODE_FOLDER`]: the folder's own id, in the log's and in the data's engine | when the folder is made |
//! | Node | `06` | [`NODE_PLAN`]: the first nodes of the cluster, and whether this one has its first replicas | at `init` |
//! | Node | `07` | [`NODE_DAMAGED`]: the data engine was found damaged, and how | when it is found |
//! | Node | `10 group` | [`node_replica`]: a replica lives here | when it is created |
//! | Node | `11 group chunk` | [`snapshot_chunk`]: a part of a snapshot that is being received | as it comes |
//! | Node | `12 group` | [`snapshot_complete`]: all chunks are here, to be put in place | until they are |

use bytes::Bytes;
use meridian_types::{GroupId, Key, NodeId, Slot, Span, Timestamp, TxnId};

use crate::{KeyError, KeyReader, TableId};

const LOG_HARD_STATE: u8 = 0x01;
const LOG_TRUNCATED: u8 = 0x02;
const LOG_REMOVED: u8 = 0x03;
const LOG_ENTRY: u8 = 0x10;

const STATE_APPLIED: u8 = 0x01;
const STATE_DESCRIPTOR: u8 = 0x02;
const STATE_CLOSED: u8 = 0x03;
const STATE_LAST_COMMIT: u8 = 0x04;
const STATE_GC_HORIZON: u8 = 0x05;
const STATE_STATISTICS: u8 = 0x06;
const STATE_SNAPSHOT: u8 = 0x07;
const STATE_SCHEMA_BARRIER: u8 = 0x08;
const STATE_DATALESS: u8 = 0x09;
const STATE_PREPARED: u8 = 0x10;
const STATE_OUTCOME: u8 = 0x11;

/// Node: cluster id and node id.
pub const NODE_IDENTITY: &[u8] = &[0x01];
/// Node: version of the disk format.
pub const NODE_FORMAT: &[u8] = &[0x02];
/// Node: how often the process has started on this folder.
pub const NODE_INCARNATION: &[u8] = &[0x03];
/// Node: the address book as last known, so that a restarted node finds the others before it has SQL.
pub const NODE_PEERS: &[u8] = &[0x04];
/// Node: the folder's own id, drawn when it was made.
pub const NODE_FOLDER: &[u8] = &[0x05];
/// Node: the first nodes of the cluster, and whether this one has created its first replicas.
pub const NODE_PLAN: &[u8] = &[0x06];
/// Node: the data engine was found damaged: what was found.
pub const NODE_DAMAGED: &[u8] = &[0x07];
const NODE_REPLICA: u8 = 0x10;
const NODE_SNAPSHOT_CHUNK: u8 = 0x11;
const NODE_SNAPSHOT_COMPLETE: u8 = 0x12;

fn group_kind(group: GroupId, kind: u8, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + room);
    key.extend_from_slice(&group.get().to_be_bytes());
    key.push(kind);
    key
}

fn push_txn(key: &mut Vec<u8>, txn: &TxnId) {
    key.extend_from_slice(&txn.first_start.as_nanos().to_be_bytes());
    key.extend_from_slice(&txn.node.get().to_be_bytes());
    key.extend_from_slice(&txn.seq.to_be_bytes());
}

fn read_u64(r: &mut KeyReader<'_>) -> Result<u64, KeyError> {
    let raw = r.take(8)?.try_into().expect("eight bytes were taken");
    Ok(u64::from_be_bytes(raw))
}

fn read_u32(r: &mut KeyReader<'_>) -> Result<u32, KeyError> {
    let raw = r.take(4)?.try_into().expect("four bytes were taken");
    Ok(u32::from_be_bytes(raw))
}

fn read_txn(r: &mut KeyReader<'_>) -> Result<TxnId, KeyError> {
    Ok(TxnId {
        first_start: Timestamp::from_nanos(read_u64(r)?),
        node: NodeId::new(read_u32(r)?),
        seq: read_u64(r)?,
    })
}

fn expect_kind(r: &mut KeyReader<'_>, kind: u8) -> Result<(), KeyError> {
    let at = r.position();
    match r.take(1)?[0] {
        found if found == kind => Ok(()),
        tag => Err(KeyError::UnexpectedTag { at, tag }),
    }
}

/// Everything of one group, in any of the families Log, State and Staged.
pub fn group_span(group: GroupId) -> Span {
    Span::prefix(&Key::copy_from(&group.get().to_be_bytes()))
}

/// The group that a key of the families Log, State and Staged belongs to.
pub fn group_of(key: &[u8]) -> Result<GroupId, KeyError> {
    read_u64(&mut KeyReader::new(key)).map(GroupId::new)
}

/// Log: promised ballot, lease vote, membership.
pub fn hard_state(group: GroupId) -> Bytes {
    group_kind(group, LOG_HARD_STATE, 0).into()
}

/// Log: the slot up to which the log is gone.
pub fn log_truncated(group: GroupId) -> Bytes {
    group_kind(group, LOG_TRUNCATED, 0).into()
}

/// Log: the generation of the descriptor by which this node left the group.
pub fn log_removed(group: GroupId) -> Bytes {
    group_kind(group, LOG_REMOVED, 0).into()
}

/// Log: an accepted entry.
pub fn log_entry(group: GroupId, slot: Slot) -> Bytes {
    let mut key = group_kind(group, LOG_ENTRY, 8);
    key.extend_from_slice(&slot.get().to_be_bytes());
    key.into()
}

/// Log: the entries `from..end` (`end` exclusive, `None` for all that follow).
pub fn log_entries(group: GroupId, from: Slot, end: Option<Slot>) -> Span {
    let start = Key::new(log_entry(group, from));
    let beyond = || Key::new(group_kind(group, LOG_ENTRY + 1, 0));
    let end = end.map_or_else(beyond, |slot| Key::new(log_entry(group, slot)));
    Span::new(start, Some(end))
}

/// The group and slot of [`log_entry`].
pub fn decode_log_entry(key: &[u8]) -> Result<(GroupId, Slot), KeyError> {
    let mut r = KeyReader::new(key);
    let group = GroupId::new(read_u64(&mut r)?);
    expect_kind(&mut r, LOG_ENTRY)?;
    let slot = Slot::new(read_u64(&mut r)?);
    r.expect_end()?;
    Ok((group, slot))
}

/// State: the applied slot.
pub fn applied(group: GroupId) -> Bytes {
    group_kind(group, STATE_APPLIED, 0).into()
}

/// State: the shard's descriptor.
pub fn descriptor(group: GroupId) -> Bytes {
    group_kind(group, STATE_DESCRIPTOR, 0).into()
}

/// State: the closed timestamp.
pub fn closed(group: GroupId) -> Bytes {
    group_kind(group, STATE_CLOSED, 0).into()
}

/// State: the greatest commit timestamp applied.
pub fn last_commit(group: GroupId) -> Bytes {
    group_kind(group, STATE_LAST_COMMIT, 0).into()
}

/// State: the garbage-collection horizon.
pub fn gc_horizon(group: GroupId) -> Bytes {
    group_kind(group, STATE_GC_HORIZON, 0).into()
}

/// State: the shard's size.
pub fn statistics(group: GroupId) -> Bytes {
    group_kind(group, STATE_STATISTICS, 0).into()
}

/// State: a snapshot is being received.
pub fn snapshot_state(group: GroupId) -> Bytes {
    group_kind(group, STATE_SNAPSHOT, 0).into()
}

/// State: the mark of a replica without data.
pub fn dataless(group: GroupId) -> Bytes {
    group_kind(group, STATE_DATALESS, 0).into()
}

/// State: a table's schema barrier.
pub fn schema_barrier(group: GroupId, table: TableId) -> Bytes {
    let mut key = group_kind(group, STATE_SCHEMA_BARRIER, 8);
    key.extend_from_slice(&table.get().to_be_bytes());
    key.into()
}

/// State: all schema barriers of a group.
pub fn schema_barriers(group: GroupId) -> Span {
    Span::prefix(&Key::new(group_kind(group, STATE_SCHEMA_BARRIER, 0)))
}

/// The group and table of [`schema_barrier`].
pub fn decode_schema_barrier(key: &[u8]) -> Result<(GroupId, TableId), KeyError> {
    let mut r = KeyReader::new(key);
    let group = GroupId::new(read_u64(&mut r)?);
    expect_kind(&mut r, STATE_SCHEMA_BARRIER)?;
    let table = TableId::new(read_u64(&mut r)?);
    r.expect_end()?;
    Ok((group, table))
}

/// State: a prepare record.
pub fn prepared(group: GroupId, txn: &TxnId) -> Bytes {
    let mut key = group_kind(group, STATE_PREPARED, 20);
    push_txn(&mut key, txn);
    key.into()
}

/// State: all prepare records of a group, in order of transaction.
pub fn all_prepared(group: GroupId) -> Span {
    Span::prefix(&Key::new(group_kind(group, STATE_PREPARED, 0)))
}

/// The group and transaction of [`prepared`].
pub fn decode_prepared(key: &[u8]) -> Result<(GroupId, TxnId), KeyError> {
    decode_group_txn(key, STATE_PREPARED)
}

/// State: how a transaction ended.
pub fn outcome(group: GroupId, txn: &TxnId) -> Bytes {
    let mut key = group_kind(group, STATE_OUTCOME, 20);
    push_txn(&mut key, txn);
    key.into()
}

/// State: all outcomes of a group, in order of transaction (and so roughly of age).
pub fn all_outcomes(group: GroupId) -> Span {
    Span::prefix(&Key::new(group_kind(group, STATE_OUTCOME, 0)))
}

/// The group and transaction of [`outcome`].
pub fn decode_outcome(key: &[u8]) -> Result<(GroupId, TxnId), KeyError> {
    decode_group_txn(key, STATE_OUTCOME)
}

fn decode_group_txn(key: &[u8], kind: u8) -> Result<(GroupId, TxnId), KeyError> {
    let mut r = KeyReader::new(key);
    let group = GroupId::new(read_u64(&mut r)?);
    expect_kind(&mut r, kind)?;
    let txn = read_txn(&mut r)?;
    r.expect_end()?;
    Ok((group, txn))
}

/// Staged: one chunk of an undecided transaction's writes.
pub fn staged(group: GroupId, txn: &TxnId, chunk: u32) -> Bytes {
    let mut key = Vec::with_capacity(32);
    key.extend_from_slice(&group.get().to_be_bytes());
    push_txn(&mut key, txn);
    key.extend_from_slice(&chunk.to_be_bytes());
    key.into()
}

/// Staged: all chunks of a transaction, in order.
pub fn all_staged(group: GroupId, txn: &TxnId) -> Span {
    let mut key = Vec::with_capacity(28);
    key.extend_from_slice(&group.get().to_be_bytes());
    push_txn(&mut key, txn);
    Span::prefix(&Key::new(key))
}

/// The group, transaction and chunk of [`staged`].
pub fn decode_staged(key: &[u8]) -> Result<(GroupId, TxnId, u32), KeyError> {
    let mut r = KeyReader::new(key);
    let group = GroupId::new(read_u64(&mut r)?);
    let txn = read_txn(&mut r)?;
    let chunk = read_u32(&mut r)?;
    r.expect_end()?;
    Ok((group, txn, chunk))
}

/// Node: a replica lives here.
pub fn node_replica(group: GroupId) -> Bytes {
    let mut key = vec![NODE_REPLICA];
    key.extend_from_slice(&group.get().to_be_bytes());
    key.into()
}

/// Node: all replicas that live here.
pub fn node_replicas() -> Span {
    Span::prefix(&Key::copy_from(&[NODE_REPLICA]))
}

/// The group of [`node_replica`].
pub fn decode_node_replica(key: &[u8]) -> Result<GroupId, KeyError> {
    let mut r = KeyReader::new(key);
    expect_kind(&mut r, NODE_REPLICA)?;
    let group = GroupId::new(read_u64(&mut r)?);
    r.expect_end()?;
    Ok(group)
}

/// Node: a part of a snapshot that is being received.
pub fn snapshot_chunk(group: GroupId, chunk: u32) -> Bytes {
    let mut key = Vec::with_capacity(13);
    key.push(NODE_SNAPSHOT_CHUNK);
    key.extend_from_slice(&group.get().to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key.into()
}

/// Node: all parts of a group's snapshot, in order.
pub fn snapshot_chunks(group: GroupId) -> Span {
    let mut key = vec![NODE_SNAPSHOT_CHUNK];
    key.extend_from_slice(&group.get().to_be_bytes());
    Span::prefix(&Key::new(key))
}

/// Node: the parts of all snapshots that are being received.
pub fn all_snapshot_chunks() -> Span {
    Span::prefix(&Key::copy_from(&[NODE_SNAPSHOT_CHUNK]))
}

/// Node: a snapshot is here as a whole.
pub fn snapshot_complete(group: GroupId) -> Bytes {
    let mut key = vec![NODE_SNAPSHOT_COMPLETE];
    key.extend_from_slice(&group.get().to_be_bytes());
    key.into()
}

/// Node: all snapshots that are here as a whole.
pub fn snapshots_complete() -> Span {
    Span::prefix(&Key::copy_from(&[NODE_SNAPSHOT_COMPLETE]))
}

/// The group of [`snapshot_complete`].
pub fn decode_snapshot_complete(key: &[u8]) -> Result<GroupId, KeyError> {
    let mut r = KeyReader::new(key);
    expect_kind(&mut r, NODE_SNAPSHOT_COMPLETE)?;
    let group = GroupId::new(read_u64(&mut r)?);
    r.expect_end()?;
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::new(0x0102);

    fn txn() -> TxnId {
        TxnId { first_start: Timestamp::from_nanos(3), node: NodeId::new(4), seq: 5 }
    }

    #[test]
    fn golden_bytes() {
        let group = b"\0\0\0\0\0\0\x01\x02";
        let txn_bytes = b"\0\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0\x05";
        let cases: Vec<(Bytes, Vec<u8>)> = vec![
            (hard_state(GROUP), b"\x01".to_vec()),
            (log_truncated(GROUP), b"\x02".to_vec()),
            (log_removed(GROUP), b"\x03".to_vec()),
            (log_entry(GROUP, Slot::new(9)), b"\x10\0\0\0\0\0\0\0\x09".to_vec()),
            (applied(GROUP), b"\x01".to_vec()),
            (descriptor(GROUP), b"\x02".to_vec()),
            (closed(GROUP), b"\x03".to_vec()),
            (last_commit(GROUP), b"\x04".to_vec()),
            (gc_horizon(GROUP), b"\x05".to_vec()),
            (statistics(GROUP), b"\x06".to_vec()),
            (snapshot_state(GROUP), b"\x07".to_vec()),
            (schema_barrier(GROUP, TableId::new(6)), b"\x08\0\0\0\0\0\0\0\x06".to_vec()),
            (dataless(GROUP), b"\x09".to_vec()),
            (prepared(GROUP, &txn()), [b"\x10", &txn_bytes[..]].concat()),
            (outcome(GROUP, &txn()), [b"\x11", &txn_bytes[..]].concat()),
            (staged(GROUP, &txn(), 7), [&txn_bytes[..], b"\0\0\0\x07"].concat()),
        ];
        for (key, tail) in cases {
            assert_eq!(key[..], [&group[..], &tail].concat());
            assert_eq!(group_of(&key), Ok(GROUP));
            assert!(group_span(GROUP).contains(&key));
        }
        assert_eq!(&node_replica(GROUP)[..], b"\x10\0\0\0\0\0\0\x01\x02");
    }

    #[test]
    fn keys_are_taken_apart() {
        assert_eq!(decode_log_entry(&log_entry(GROUP, Slot::new(9))), Ok((GROUP, Slot::new(9))));
        assert_eq!(decode_prepared(&prepared(GROUP, &txn())), Ok((GROUP, txn())));
        assert_eq!(decode_outcome(&outcome(GROUP, &txn())), Ok((GROUP, txn())));
        assert_eq!(decode_staged(&staged(GROUP, &txn(), 7)), Ok((GROUP, txn(), 7)));
        assert_eq!(
            decode_schema_barrier(&schema_barrier(GROUP, TableId::new(6))),
            Ok((GROUP, TableId::new(6)))
        );
        assert_eq!(decode_node_replica(&node_replica(GROUP)), Ok(GROUP));
        assert!(decode_prepared(&outcome(GROUP, &txn())).is_err(), "another kind of record");
        assert!(decode_log_entry(&hard_state(GROUP)).is_err());
    }

    #[test]
    fn spans_hold_what_they_name() {
        let entry = |slot| log_entry(GROUP, Slot::new(slot));
        let some = log_entries(GROUP, Slot::new(3), Some(Slot::new(5)));
        let inside: Vec<bool> = (2..7).map(|s| some.contains(&entry(s))).collect();
        assert_eq!(inside, [false, true, true, false, false]);
        let all = log_entries(GROUP, Slot::ZERO, None);
        assert!(all.contains(&entry(u64::MAX)) && !all.contains(&hard_state(GROUP)));
        assert!(!all.contains(&log_entry(GroupId::new(0x0103), Slot::ZERO)));
        assert!(all_prepared(GROUP).contains(&prepared(GROUP, &txn())));
        assert!(!all_prepared(GROUP).contains(&outcome(GROUP, &txn())));
        assert!(all_staged(GROUP, &txn()).contains(&staged(GROUP, &txn(), u32::MAX)));
    }
}
