//! The two engines of a simulated node.
//!
//! The log engine makes writes durable in order, some time after they were asked for; a crash keeps a prefix of those
//! that were under way. The data engine is known by its applied slot alone: what is applied is buffered until a sync,
//! and a crash takes it back to any point in between.

use std::collections::{BTreeMap, VecDeque};

use meridian_paxos::{HardState, LogEntry, Membership, Persist, PersistToken, Recovered};
use meridian_types::{SeededRng, Slot, Timestamp};

#[derive(Debug, Default)]
pub(super) struct Disk {
    hard: HardState,
    truncated: Slot,
    entries: BTreeMap<Slot, LogEntry>,
    under_way: VecDeque<(PersistToken, Vec<Persist>)>,
    /// Fsyncs complete in order.
    pub(super) busy_until: Timestamp,
    pub(super) applied: Slot,
    synced: Slot,
}

impl Disk {
    pub(super) fn write(&mut self, token: PersistToken, writes: Vec<Persist>) {
        self.under_way.push_back((token, writes));
    }

    /// Everything up to `token` is durable.
    pub(super) fn complete(&mut self, token: PersistToken) {
        while self.under_way.front().is_some_and(|(t, _)| *t <= token) {
            self.complete_first();
        }
    }

    fn complete_first(&mut self) {
        let Some((_, writes)) = self.under_way.pop_front() else { return };
        for write in writes {
            match write {
                Persist::HardState(hard) => self.hard = hard,
                Persist::Entries(entries) => self.entries.extend(entries.into_iter().map(|e| (e.slot, e))),
                Persist::Truncate(slot) => {
                    self.entries = self.entries.split_off(&slot.next());
                    self.truncated = self.truncated.max(slot);
                }
            }
        }
    }

    /// Makes the applied state durable and returns how far.
    pub(super) fn sync(&mut self) -> Slot {
        self.synced = self.applied;
        self.synced
    }

    pub(super) fn install_snapshot(&mut self, applied: Slot) {
        self.applied = applied;
        self.synced = applied;
    }

    /// Loses what is not durable.
    pub(super) fn crash(&mut self, rng: &mut SeededRng) {
        let survivors = if rng.chance(1, 2) { 0 } else { rng.below(self.under_way.len() as u64 + 1) };
        for _ in 0..survivors {
            self.complete_first();
        }
        self.under_way.clear();
        let lost = rng.below(self.applied.get() - self.synced.get() + 1);
        // A lost Truncate leaves the log longer, which is harmless; the other way round would lose data.
        self.applied = Slot::new(self.applied.get() - lost).max(self.truncated);
        self.synced = self.applied;
    }

    pub(super) fn recover(&self, membership: Membership) -> Recovered {
        Recovered {
            hard: self.hard.clone(),
            truncated: self.truncated,
            entries: self.entries.values().cloned().collect(),
            membership,
            applied: self.applied,
        }
    }
}
