//! The replicated state: what a replica knows as a function of its applied log (I-6), and how it is kept.
//!
//! ```text
//!   family State   applied(group)      slot, greatest commit timestamp, floor, greatest decision, epoch: with
//!                                      every entry
//!                  descriptor(group)   when it changes
//!                  dataless(group)     there, for ever, where the replica has no data (see `membership`)
//!                  prepared(group, t)  prepare record, until resolved
//!                  outcome(group, t')  outcome record; t' is the transaction with a retention class in the place of
//!                                      its first start, see [`outcome_key`]
//!   family Staged  staged(group, t, n) chunk n of an undecided transaction
//!   family Data    versions
//! ```
//! Two positions move through the log. `emitted` is how far entries have become batches for the data engine; `confirmed`
//! is how far the engine has them. What readers and clients see (`shown`, prepared transactions leaving the map,
//! replies, released locks) follows `confirmed`.
//!
//! Invariants: `confirmed <= emitted`; `shown <= last_commit`; every prepared key belongs to one transaction.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meridian_keys::local;
use meridian_paxos::{HardState, MemberKind, Membership};
use meridian_storage::{Family, Reader, StorageError, WriteBatch};
use meridian_types::{Ballot, Duration, GroupId, Key, NodeId, Slot, Span, Timestamp, TxnId};
use smallvec::SmallVec;

use crate::apply::{Effect, QueuedEntry};
use crate::codec::CodecError;
use crate::command::{OutcomeRecord, PrepareRecord, StagedChunk};
use crate::{Epoch, Outcome, ReadOp, Recovered, ShardDescriptor};

/// Outcomes are dropped a whole epoch at a time, by one span deletion: they live for one to two epochs. A gateway asks
/// for a lost answer within seconds.
const OUTCOME_EPOCH: Duration = Duration::from_secs(600);

/// A prepared transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Prepared {
    pub(crate) record: PrepareRecord,
    /// The emitted entry that resolved it; readers are kept waiting until the data engine has it.
    pub(crate) resolved: Option<Slot>,
}

/// The state. See the module.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) group: GroupId,
    pub(crate) descriptor: ShardDescriptor,
    /// Whose state it is.
    me: NodeId,
    /// Data is applied here.
    pub(crate) holds_data: bool,
    /// The next entry makes this a member with data, which it has not: only a snapshot helps.
    pub(crate) lacks_data: bool,
    pub(crate) emitted: Slot,
    pub(crate) confirmed: Slot,
    /// Greatest commit timestamp emitted.
    pub(crate) last_commit: Timestamp,
    /// Greatest commit timestamp that the data engine has.
    pub(crate) shown: Timestamp,
    /// No leader assigns at or below this; set by a split.
    pub(crate) floor: Timestamp,
    /// Greatest timestamp of any decision, aborts included: the clock by which outcomes expire.
    pub(crate) decided: Timestamp,
    /// Whose entries have an effect.
    pub(crate) epoch: Epoch,
    pub(crate) gc_horizon: Timestamp,
    pub(crate) prepared: BTreeMap<TxnId, Prepared>,
    /// More than one only while the data engine lags behind a resolution that let the next one in.
    prepared_keys: BTreeMap<Key, SmallVec<[TxnId; 1]>>,
    prepared_spans: Vec<(Span, TxnId)>,
    /// Outcomes that wait for `Forget`.
    pub(crate) awaiting: BTreeMap<TxnId, OutcomeRecord>,
    /// Spans of the staged chunks of transactions that are not decided.
    pub(crate) staged: BTreeMap<TxnId, BTreeMap<u32, Span>>,
    pub(crate) queue: VecDeque<QueuedEntry>,
    pub(crate) unconfirmed: VecDeque<(Slot, Effect)>,
}

/// In the word of the epoch's node, whose ids have 32 bits.
const EPOCH_OVER_BIT: u32 = 32;

/// What is kept at `applied(group)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub(crate) slot: Slot,
    pub(crate) last_commit: Timestamp,
    pub(crate) floor: Timestamp,
    pub(crate) decided: Timestamp,
    pub(crate) epoch: Epoch,
}

impl Position {
    pub(crate) fn encode(self) -> Bytes {
        let times = [self.last_commit, self.floor, self.decided].map(Timestamp::as_nanos);
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(&self.slot.get().to_be_bytes());
        times.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        let Epoch { leader, is_over } = self.epoch;
        bytes.extend_from_slice(&leader.round.to_be_bytes());
        let node = u64::from(leader.node.get()) | (u64::from(is_over) << EPOCH_OVER_BIT);
        bytes.extend_from_slice(&node.to_be_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let words: [u8; 48] = bytes.try_into().map_err(|_| corrupt("applied position", CodecError::Short))?;
        let word = |i: usize| u64::from_be_bytes(words[i..i + 8].try_into().expect("a word has eight bytes"));
        let time = |i| Timestamp::from_nanos(word(i));
        let is_over = word(40) >> EPOCH_OVER_BIT == 1;
        let node = word(40) & !(u64::from(is_over) << EPOCH_OVER_BIT);
        let node = u32::try_from(node).map_err(|_| corrupt("applied position", CodecError::Tag(0)))?;
        Ok(Position {
            slot: Slot::new(word(0)),
            last_commit: time(8),
            floor: time(16),
            decided: time(24),
            epoch: Epoch { leader: Ballot::new(word(32), NodeId::new(node)), is_over },
        })
    }
}

fn corrupt(what: &str, error: CodecError) -> StorageError {
    StorageError::Corruption { detail: format!("{what}: {error}") }
}

fn epoch_start(t: Timestamp) -> Timestamp {
    let epoch = OUTCOME_EPOCH.as_nanos();
    Timestamp::from_nanos(t.as_nanos() / epoch * epoch)
}

/// Where an outcome is kept. A transaction is named by gateway and sequence alone; the place of its first start holds
/// the *retention class*: the epoch in which it was decided (so that old ones go by one span deletion, however long a
/// transaction ran), or the greatest timestamp while the record waits for acknowledgements.
pub(crate) fn outcome_key(group: GroupId, txn: &TxnId, class: Timestamp) -> Bytes {
    local::outcome(group, &TxnId { first_start: class, ..*txn })
}

/// The retention class of an outcome decided at `s`.
pub(crate) fn class_of(s: Timestamp) -> Timestamp {
    epoch_start(s)
}

/// The classes in which a settled outcome can still be, given the greatest decision.
fn live_classes(decided: Timestamp) -> [Timestamp; 2] {
    let current = epoch_start(decided);
    [current, current.saturating_sub(OUTCOME_EPOCH)]
}

/// The outcomes that are dropped when the greatest decision moves from one epoch to another.
pub(crate) fn expired_outcomes(group: GroupId, before: Timestamp, after: Timestamp) -> Option<Span> {
    if epoch_start(before) == epoch_start(after) {
        return None;
    }
    let nobody = |class| TxnId { first_start: class, node: NodeId::new(0), seq: 0 };
    let cutoff = epoch_start(after).saturating_sub(OUTCOME_EPOCH);
    let start = Key::new(local::outcome(group, &nobody(Timestamp::ZERO)));
    Some(Span::new(start, Some(Key::new(local::outcome(group, &nobody(cutoff))))))
}

/// What a group's data engine part must hold before its first entry. For a split-off group the split's own entry
/// writes it.
pub fn initial_state(descriptor: &ShardDescriptor, floor: Timestamp, holds_data: bool) -> WriteBatch {
    let mut batch = WriteBatch::new();
    let position = Position {
        slot: Slot::ZERO,
        last_commit: Timestamp::ZERO,
        floor,
        decided: Timestamp::ZERO,
        epoch: Epoch::default(),
    };
    write_initial(&mut batch, descriptor, position, holds_data);
    batch
}

pub(crate) fn write_initial(
    batch: &mut WriteBatch,
    descriptor: &ShardDescriptor,
    position: Position,
    holds_data: bool,
) {
    if !holds_data {
        batch.put(Family::State, local::dataless(descriptor.group), Bytes::new());
    }
    batch.put(Family::State, local::applied(descriptor.group), position.encode());
    batch.put(Family::State, local::descriptor(descriptor.group), descriptor.encode());
}

/// All that a replica without data begins with: where the log stands, and who its members are. As rows of a snapshot.
pub fn dataless_rows(
    reader: &dyn Reader,
    group: GroupId,
) -> Result<Vec<(Family, Bytes, Bytes)>, StorageError> {
    let mut rows = vec![(Family::State, local::dataless(group), Bytes::new())];
    for key in [local::applied(group), local::descriptor(group), local::gc_horizon(group)] {
        if let Some(value) = reader.get(Family::State, &key)? {
            rows.push((Family::State, key, value));
        }
    }
    Ok(rows)
}

/// Loads the part of [`Recovered`] that lives in the data engine; `None` where the group has no replica here. The log
/// engine's part is left empty for the driver to fill in.
pub fn recover(reader: &dyn Reader, group: GroupId) -> Result<Option<Recovered>, StorageError> {
    let Some(descriptor) = reader.get(Family::State, &local::descriptor(group))? else { return Ok(None) };
    let descriptor = ShardDescriptor::decode(descriptor).map_err(|e| corrupt("descriptor", e))?;
    let position = reader.get(Family::State, &local::applied(group))?;
    let position = Position::decode(position.as_deref().unwrap_or_default())?;
    let horizon = reader.get(Family::State, &local::gc_horizon(group))?;
    let horizon = horizon.as_deref().map(|b| b.try_into().map(u64::from_be_bytes));
    let gc_horizon =
        horizon.transpose().map_err(|_| corrupt("horizon", CodecError::Short))?.unwrap_or_default();
    let mut recovered = Recovered {
        hard: HardState::default(),
        truncated: Slot::ZERO,
        entries: Vec::new(),
        applied: position.slot,
        descriptor,
        holds_data: reader.get(Family::State, &local::dataless(group))?.is_none(),
        last_commit: position.last_commit,
        floor: position.floor,
        decided: position.decided,
        epoch: position.epoch,
        gc_horizon: Timestamp::from_nanos(gc_horizon),
        prepared: Vec::new(),
        outcomes: Vec::new(),
        staged: Vec::new(),
    };
    for_each(reader, Family::State, &local::all_prepared(group), |key, value| {
        let (_, txn) = local::decode_prepared(key).map_err(|e| bad_key(&e.to_string()))?;
        recovered.prepared.push((txn, value));
        Ok(())
    })?;
    for_each(reader, Family::State, &local::all_outcomes(group), |_, value| {
        let record = OutcomeRecord::decode(value.clone()).map_err(|e| corrupt("outcome", e))?;
        if !record.participants.is_empty() {
            recovered.outcomes.push((record.txn, value));
        }
        Ok(())
    })?;
    for_each(reader, Family::Staged, &local::group_span(group), |key, value| {
        let (_, txn, chunk) = local::decode_staged(key).map_err(|e| bad_key(&e.to_string()))?;
        let staged = StagedChunk::decode(value).map_err(|e| corrupt("staged chunk", e))?;
        recovered.staged.push((txn, chunk, staged.lock));
        Ok(())
    })?;
    Ok(Some(recovered))
}

fn bad_key(what: &str) -> StorageError {
    StorageError::Corruption { detail: what.to_owned() }
}

pub(crate) fn for_each(
    reader: &dyn Reader,
    family: Family,
    span: &Span,
    mut visit: impl FnMut(&[u8], Bytes) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut cursor = reader.cursor(family, span);
    let mut more = cursor.first()?;
    while more {
        visit(cursor.key(), Bytes::copy_from_slice(cursor.value()))?;
        more = cursor.next()?;
    }
    Ok(())
}

impl Recovered {
    /// The part that the Paxos replica needs.
    pub(crate) fn paxos(&self) -> meridian_paxos::Recovered {
        meridian_paxos::Recovered {
            hard: self.hard.clone(),
            truncated: self.truncated,
            entries: self.entries.clone(),
            membership: Membership { members: self.descriptor.replicas.clone() },
            applied: self.applied,
        }
    }
}

impl State {
    /// # Panics
    /// When a record is damaged: a replica must not go on without knowing what it promised.
    pub(crate) fn new(recovered: Recovered, me: NodeId) -> Self {
        let mut state = State {
            group: recovered.descriptor.group,
            descriptor: recovered.descriptor,
            me,
            holds_data: recovered.holds_data,
            lacks_data: false,
            emitted: recovered.applied,
            confirmed: recovered.applied,
            last_commit: recovered.last_commit,
            shown: recovered.last_commit,
            floor: recovered.floor,
            decided: recovered.decided,
            epoch: recovered.epoch,
            gc_horizon: recovered.gc_horizon,
            prepared: BTreeMap::new(),
            prepared_keys: BTreeMap::new(),
            prepared_spans: Vec::new(),
            awaiting: BTreeMap::new(),
            staged: BTreeMap::new(),
            queue: VecDeque::new(),
            unconfirmed: VecDeque::new(),
        };
        for (txn, chunk, lock) in recovered.staged {
            state.staged.entry(txn).or_default().insert(chunk, lock);
        }
        for (_, bytes) in recovered.prepared {
            state.add_prepared(PrepareRecord::decode(bytes).expect("a prepare record is written whole"));
        }
        for (txn, bytes) in recovered.outcomes {
            let record = OutcomeRecord::decode(bytes).expect("an outcome record is written whole");
            state.awaiting.insert(txn, record);
        }
        state
    }

    pub(crate) fn add_prepared(&mut self, record: PrepareRecord) {
        let txn = record.txn;
        for write in &record.writes {
            let owners = self.prepared_keys.entry(write.key.clone()).or_default();
            let open = |o: &&TxnId| self.prepared.get(*o).is_some_and(|p| p.resolved.is_none());
            let other = owners.iter().find(open);
            assert!(other.is_none(), "{:?} is prepared by {other:?} and {txn}", write.key);
            owners.push(txn);
        }
        for span in self.staged.get(&txn).into_iter().flat_map(BTreeMap::values) {
            self.prepared_spans.push((span.clone(), txn));
        }
        self.prepared.insert(txn, Prepared { record, resolved: None });
    }

    pub(crate) fn remove_prepared(&mut self, txn: &TxnId) {
        let Some(prepared) = self.prepared.remove(txn) else { return };
        for write in &prepared.record.writes {
            if let Some(owners) = self.prepared_keys.get_mut(&write.key) {
                owners.retain(|owner| owner != txn);
                if owners.is_empty() {
                    self.prepared_keys.remove(&write.key);
                }
            }
        }
        self.prepared_spans.retain(|(_, t)| t != txn);
    }

    /// The prepared transactions that are not yet resolved by an emitted entry.
    pub(crate) fn unresolved(&self, txn: &TxnId) -> Option<&Prepared> {
        self.prepared.get(txn).filter(|p| p.resolved.is_none())
    }

    /// True when some prepared transaction that may commit at or below `t` writes what `op` reads.
    pub(crate) fn prepared_blocks(&self, op: &ReadOp, t: Timestamp) -> bool {
        if self.prepared.is_empty() {
            return false;
        }
        let early = |txn: &TxnId| self.prepared[txn].record.prepare_ts <= t;
        match op {
            ReadOp::Get(key) => {
                self.prepared_keys.get(key).is_some_and(|owners| owners.iter().any(early))
                    || self.prepared_spans.iter().any(|(s, txn)| s.contains(key.as_bytes()) && early(txn))
            }
            ReadOp::Scan { span, .. } if span.is_empty() => false,
            ReadOp::Scan { span, .. } => {
                let upper = span.end.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
                let keys =
                    self.prepared_keys.range::<Key, _>((std::ops::Bound::Included(&span.start), upper));
                keys.into_iter().any(|(_, owners)| owners.iter().any(early))
                    || self.prepared_spans.iter().any(|(s, txn)| s.overlaps(span) && early(txn))
            }
        }
    }

    /// How a transaction ended, as far as the data engine knows.
    pub(crate) fn known_outcome(&self, reader: &dyn Reader, txn: &TxnId) -> Option<Outcome> {
        if let Some(record) = self.awaiting.get(txn) {
            return Some(record.outcome);
        }
        live_classes(self.decided).into_iter().find_map(|class| {
            let bytes = reader.get(Family::State, &outcome_key(self.group, txn, class));
            let bytes = bytes.expect("the data engine can be read")?;
            let record = OutcomeRecord::decode(bytes).expect("an outcome record is written whole");
            (record.txn == *txn).then_some(record.outcome)
        })
    }

    pub(crate) fn position(&self, slot: Slot) -> Position {
        Position {
            slot,
            last_commit: self.last_commit,
            floor: self.floor,
            decided: self.decided,
            epoch: self.epoch,
        }
    }

    /// True for a membership in which this node's replica has data, where it has none here: it was a witness, left, and came
    /// back as another kind before it applied that it had left.
    pub(crate) fn needs_data_for(&self, membership: &Membership) -> bool {
        !self.holds_data && membership.kind(self.me).is_some_and(MemberKind::holds_data)
    }

    /// True when everything emitted is confirmed and nothing is undecided.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.unconfirmed.is_empty()
            && self.prepared.is_empty()
            && self.awaiting.is_empty()
            && self.staged.is_empty()
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.confirmed <= self.emitted,
            "confirmed {} beyond emitted {}",
            self.confirmed,
            self.emitted
        );
        assert!(self.shown <= self.last_commit, "shown {} beyond the last commit", self.shown);
        for (key, owners) in &self.prepared_keys {
            assert!(!owners.is_empty(), "{key:?} is prepared by nobody");
            for txn in owners {
                assert!(self.prepared.contains_key(txn), "{key:?} is prepared by the unknown {txn}");
            }
        }
        for (_, txn) in &self.prepared_spans {
            assert!(self.prepared.contains_key(txn), "a span is prepared by the unknown {txn}");
        }
    }
}
