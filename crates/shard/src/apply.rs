//! Application of chosen entries, in slot order, each behind the *apply gate*.
//!
//! An entry with commit timestamp `s` is applied, on any replica, only once that replica's `TT.after(s)`: that is the
//! commit wait (Spanner, section 4.2.1). It overlaps replication, since the clock runs while the quorum answers. Because of
//! it no replica ever shows a version whose timestamp may lie in the future, so whatever a leader has applied is safe to
//! read.
//!
//! ```text
//!   chosen -> queue -> [gate: TT.after(s)] -> batch -> data engine -> confirmed -> replies, locks released
//!                      [barrier: needs to read what earlier entries wrote -> waits for their confirmation]
//! ```
//! Entries of an ended [epoch](crate::epoch) have no effect.
//!
//! The effect of an entry depends on earlier entries alone, never on the clock, on leadership or on timing (I-6).
//!
//! A replica without data (a witness) passes over whatever concerns data. It waits for no gate, since it shows nothing; it
//! follows members, splits and leaders, so that it knows of what it is a member.

use meridian_keys::local;
use meridian_paxos as paxos;
use meridian_storage::{Family, Reader, WriteBatch};
use meridian_types::{Ballot, GroupId, Key, Slot, Span, Timestamp, TtInterval, TxnId};

use crate::command::{Command, OutcomeRecord, StagedChunk};
use crate::state::{self, State, class_of, outcome_key};
use crate::{Apply, CreateReplica, Epoch, Outcome, ShardDescriptor, Write};

/// A chosen entry that waits for its turn.
#[derive(Debug)]
pub(crate) struct QueuedEntry {
    pub(crate) slot: Slot,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Noop,
    Membership(paxos::Membership),
    Command { origin: Ballot, command: Command },
}

/// What an applied entry means to those who wait for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    None,
    Committed { txn: TxnId, s: Timestamp },
    Staged { txn: TxnId, chunk: u32 },
    Prepared { txn: TxnId },
    Resolved { txn: TxnId, outcome: Outcome },
    AbortRecorded { txn: TxnId },
    Forgotten { txn: TxnId },
    RolledBack { txn: TxnId },
    Filled,
    Split { left: ShardDescriptor, right: ShardDescriptor },
    Membership,
}

/// What emission hands on beside batches.
#[derive(Default)]
pub(crate) struct Emitted {
    pub(crate) apply: Vec<Apply>,
    pub(crate) create: Vec<CreateReplica>,
}

/// What the simulation has planted in the application of entries.
#[derive(Clone, Copy)]
pub(crate) struct Bugs {
    pub(crate) skips_gate: bool,
    pub(crate) counts_behind_holes: bool,
}

impl State {
    /// Queues a chosen entry.
    ///
    /// # Panics
    /// When it is not the next one, or can't be decoded.
    pub(crate) fn enqueue(&mut self, entry: paxos::LogEntry) {
        let expected = self.queue.back().map_or(self.emitted, |e| e.slot).next();
        assert!(entry.slot == expected, "entry {} was chosen where {expected} is due", entry.slot);
        let content = match entry.command {
            paxos::Command::Noop => Content::Noop,
            paxos::Command::Membership(membership) => Content::Membership(membership),
            paxos::Command::Normal(bytes) => {
                let decoded = Command::decode(bytes).expect("a chosen command was encoded by a leader");
                Content::Command { origin: decoded.0, command: decoded.1 }
            }
        };
        self.queue.push_back(QueuedEntry { slot: entry.slot, content });
    }

    /// The commit timestamp that the first waiting entry waits for.
    pub(crate) fn gated(&self) -> Option<Timestamp> {
        match &self.queue.front()?.content {
            Content::Command { origin, command } if self.epoch.counts(*origin) && self.holds_data => {
                command.gate()
            }
            Content::Command { .. } | Content::Noop | Content::Membership(_) => None,
        }
    }

    /// Emits all that the gate lets through.
    pub(crate) fn emit(
        &mut self,
        tt: Option<TtInterval>,
        bugs: Bugs,
        reader: &dyn Reader,
        out: &mut Emitted,
    ) {
        while let Some(front) = self.queue.front() {
            if let Content::Membership(membership) = &front.content
                && self.needs_data_for(membership)
            {
                self.lacks_data = true;
                return;
            }
            if let Content::Command { origin, command } = &front.content
                && self.epoch.counts(*origin)
                && self.holds_data
            {
                let closed = command.gate().is_some_and(|s| !tt.is_some_and(|tt| tt.after(s)));
                if closed && !bugs.skips_gate {
                    return;
                }
                if self.needs_barrier(command) && self.confirmed < self.emitted {
                    return;
                }
            }
            let QueuedEntry { slot, content } = self.queue.pop_front().expect("it has a front");
            let mut batch = WriteBatch::new();
            let before = self.decided;
            let effect = match content {
                Content::Noop => {
                    if !bugs.counts_behind_holes {
                        self.epoch.end();
                    }
                    Effect::None
                }
                Content::Membership(membership) => self.apply_membership(membership, &mut batch),
                Content::Command { origin, .. } if !self.epoch.counts(origin) => Effect::None,
                Content::Command { command: Command::Lead, origin } => {
                    self.epoch = Epoch::of(origin);
                    Effect::None
                }
                Content::Command { command, .. } if !self.holds_data && command.concerns_data() => {
                    Effect::None
                }
                Content::Command { command, .. } => self.apply_command(command, reader, &mut batch, out),
            };
            if let Some(expired) = state::expired_outcomes(self.group, before, self.decided) {
                batch.delete_span(Family::State, expired);
            }
            batch.put(Family::State, local::applied(self.group), self.position(slot).encode());
            self.emitted = slot;
            if let Effect::Resolved { txn, .. } = &effect
                && let Some(prepared) = self.prepared.get_mut(txn)
            {
                prepared.resolved.get_or_insert(slot);
            }
            self.unconfirmed.push_back((slot, effect));
            out.apply.push(Apply { slot, batch });
        }
    }

    /// The data engine has everything up to `slot`. Returns the next effect that this makes visible.
    pub(crate) fn confirm_next(&mut self, slot: Slot) -> Option<(Slot, Effect)> {
        assert!(slot <= self.emitted, "slot {slot} was applied before it was emitted");
        if self.unconfirmed.front().is_none_or(|(s, _)| *s > slot) {
            return None;
        }
        let (slot, effect) = self.unconfirmed.pop_front().expect("it has a front");
        assert!(slot == self.confirmed.next(), "slot {slot} was confirmed after {}", self.confirmed);
        self.confirmed = slot;
        match &effect {
            Effect::Committed { s, .. } => self.shown = self.shown.max(*s),
            Effect::Resolved { txn, outcome } => {
                if let Outcome::Committed(s) = outcome {
                    self.shown = self.shown.max(*s);
                }
                if self.prepared.get(txn).is_some_and(|p| p.resolved.is_some_and(|r| r <= slot)) {
                    self.remove_prepared(txn);
                }
            }
            _ => {}
        }
        Some((slot, effect))
    }

    fn apply_membership(&mut self, membership: paxos::Membership, batch: &mut WriteBatch) -> Effect {
        self.descriptor.replicas = membership.members;
        self.descriptor.generation += 1;
        batch.put(Family::State, local::descriptor(self.group), self.descriptor.encode());
        Effect::Membership
    }

    fn apply_command(
        &mut self,
        command: Command,
        reader: &dyn Reader,
        batch: &mut WriteBatch,
        out: &mut Emitted,
    ) -> Effect {
        match command {
            Command::Commit { txn, s, writes, staged_chunks } => {
                self.write_versions(&txn, s, &writes, staged_chunks, reader, batch);
                self.record_outcome(
                    OutcomeRecord { txn, outcome: Outcome::Committed(s), participants: vec![] },
                    s,
                    batch,
                );
                Effect::Committed { txn, s }
            }
            Command::Stage { txn, chunk, staged } => {
                batch.put(Family::Staged, local::staged(self.group, &txn, chunk), staged.encode());
                self.staged.entry(txn).or_default().insert(chunk, staged.lock);
                Effect::Staged { txn, chunk }
            }
            Command::Prepare(record) => {
                let txn = record.txn;
                batch.put(Family::State, local::prepared(self.group, &txn), record.encode());
                if self.unresolved(&txn).is_none() {
                    self.remove_prepared(&txn);
                    self.add_prepared(record);
                }
                Effect::Prepared { txn }
            }
            Command::Decide { txn, s, writes, staged_chunks, participants } => {
                self.write_versions(&txn, s, &writes, staged_chunks, reader, batch);
                self.record_outcome(
                    OutcomeRecord { txn, outcome: Outcome::Committed(s), participants },
                    s,
                    batch,
                );
                Effect::Committed { txn, s }
            }
            Command::Resolve { txn, outcome } => self.apply_resolve(txn, outcome, reader, batch),
            Command::AbortRecord { txn, at } => {
                self.record_outcome(
                    OutcomeRecord { txn, outcome: Outcome::Aborted, participants: vec![] },
                    at,
                    batch,
                );
                self.drop_staged(&txn, batch);
                Effect::AbortRecorded { txn }
            }
            Command::Forget { txn } => {
                if let Some(mut record) = self.awaiting.remove(&txn) {
                    batch.delete(Family::State, outcome_key(self.group, &txn, Timestamp::MAX));
                    record.participants.clear();
                    self.record_outcome(record, self.decided, batch);
                }
                Effect::Forgotten { txn }
            }
            Command::Rollback { txn } => {
                if self.unresolved(&txn).is_none() {
                    self.drop_staged(&txn, batch);
                }
                Effect::RolledBack { txn }
            }
            Command::Split { at, new_group, floor } => {
                self.apply_split(at, new_group, floor, reader, batch, out)
            }
            Command::Collect { horizon } => {
                self.gc_horizon = self.gc_horizon.max(horizon);
                self.write_horizon(self.group, batch);
                Effect::None
            }
            Command::Fill { at, writes } => {
                for w in &writes {
                    assert!(self.descriptor.span.contains(w.key.as_bytes()), "a fill outside of its shard");
                    meridian_mvcc::write_version(batch, w.key.as_bytes(), at, w.value.as_deref());
                }
                Effect::Filled
            }
            Command::Lead => unreachable!("its origin matters, so the caller deals with it"),
        }
    }

    fn apply_resolve(
        &mut self,
        txn: TxnId,
        outcome: Outcome,
        reader: &dyn Reader,
        batch: &mut WriteBatch,
    ) -> Effect {
        if let Some(prepared) = self.unresolved(&txn) {
            if let Outcome::Committed(s) = outcome {
                let record = prepared.record.clone();
                self.write_versions(&txn, s, &record.writes, record.staged_chunks, reader, batch);
            } else {
                self.drop_staged(&txn, batch);
            }
            batch.delete(Family::State, local::prepared(self.group, &txn));
        }
        Effect::Resolved { txn, outcome }
    }

    /// Writes a transaction's versions at `s`: staged chunks first, then what came with the decision, which is newer.
    fn write_versions(
        &mut self,
        txn: &TxnId,
        s: Timestamp,
        writes: &[Write],
        staged_chunks: u32,
        reader: &dyn Reader,
        batch: &mut WriteBatch,
    ) {
        let put = |batch: &mut WriteBatch, writes: &[Write]| {
            for w in writes {
                meridian_mvcc::write_version(batch, w.key.as_bytes(), s, w.value.as_deref());
            }
        };
        for number in 0..staged_chunks {
            let bytes = reader.get(Family::Staged, &local::staged(self.group, txn, number));
            let bytes =
                bytes.expect("the data engine can be read").expect("chunks precede their commit in the log");
            let chunk = StagedChunk::decode(bytes).expect("a chunk is written whole");
            if number == 0 {
                // Chunks have about the same size, and a list of a million changes is slow to move.
                batch.reserve(chunk.writes.len() * staged_chunks as usize + writes.len());
            }
            put(batch, &chunk.writes);
        }
        put(batch, writes);
        self.drop_staged(txn, batch);
        self.last_commit = self.last_commit.max(s);
    }

    fn drop_staged(&mut self, txn: &TxnId, batch: &mut WriteBatch) {
        for chunk in self.staged.remove(txn).unwrap_or_default().into_keys() {
            batch.delete(Family::Staged, local::staged(self.group, txn, chunk));
        }
    }

    fn record_outcome(&mut self, record: OutcomeRecord, decided: Timestamp, batch: &mut WriteBatch) {
        self.decided = self.decided.max(decided);
        let class = if record.participants.is_empty() { class_of(decided) } else { Timestamp::MAX };
        batch.put(Family::State, outcome_key(self.group, &record.txn, class), record.encode());
        if !record.participants.is_empty() {
            self.awaiting.insert(record.txn, record);
        }
    }

    fn apply_split(
        &mut self,
        at: Key,
        new_group: GroupId,
        floor: Timestamp,
        reader: &dyn Reader,
        batch: &mut WriteBatch,
        out: &mut Emitted,
    ) -> Effect {
        assert!(
            self.descriptor.span.contains(at.as_bytes()),
            "split at {at:?} outside of {:?}",
            self.descriptor.span
        );
        assert!(self.prepared.values().all(|p| p.resolved.is_some()), "split with prepared transactions");
        let end = self.descriptor.span.end.replace(at.clone());
        self.descriptor.generation += 1;
        self.floor = self.floor.max(floor);
        let left = self.descriptor.clone();
        let right = ShardDescriptor { group: new_group, span: Span::new(at, end), ..left.clone() };
        batch.put(Family::State, local::descriptor(self.group), left.encode());
        // The right half's ballots start anew.
        let position = state::Position { epoch: Epoch::default(), ..self.position(Slot::ZERO) };
        state::write_initial(batch, &right, position, self.holds_data);
        self.write_horizon(new_group, batch);
        let outcomes =
            state::for_each(reader, Family::State, &local::all_outcomes(self.group), |key, value| {
                let (_, txn) = local::decode_outcome(key).expect("only outcomes are in the span of outcomes");
                batch.put(Family::State, local::outcome(new_group, &txn), value);
                Ok(())
            });
        outcomes.expect("the data engine can be read");
        out.create.push(CreateReplica { descriptor: right.clone(), floor: self.floor, campaign: false });
        Effect::Split { left, right }
    }

    fn write_horizon(&self, group: GroupId, batch: &mut WriteBatch) {
        let horizon = self.gc_horizon.as_nanos().to_be_bytes();
        batch.put(Family::State, local::gc_horizon(group), bytes::Bytes::copy_from_slice(&horizon));
    }

    /// True for entries whose effect needs what earlier entries wrote to the data engine.
    fn needs_barrier(&self, command: &Command) -> bool {
        match command {
            Command::Commit { staged_chunks, .. } | Command::Decide { staged_chunks, .. } => {
                *staged_chunks > 0
            }
            Command::Resolve { txn, .. } => {
                self.prepared.get(txn).is_some_and(|p| p.record.staged_chunks > 0)
            }
            Command::Split { .. } => true,
            Command::Stage { .. }
            | Command::Prepare(_)
            | Command::AbortRecord { .. }
            | Command::Forget { .. }
            | Command::Rollback { .. }
            | Command::Lead
            | Command::Collect { .. }
            | Command::Fill { .. } => false,
        }
    }
}
