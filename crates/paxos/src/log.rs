//! The in-memory log of one replica: accepted entries above the truncation point and the chosen prefix.
//!
//! ```text
//!   1 ... truncated | ... chosen | ... last
//!   gone            | chosen,    | accepted, perhaps
//!                   | no gaps    | with gaps
//! ```
//!
//! Invariant: `truncated <= chosen <= last`; every slot in `(truncated, chosen]` holds an entry; the command of a
//! chosen slot never changes (I-2).

use std::collections::BTreeMap;

use meridian_types::Slot;

use crate::{Command, LogEntry};

/// What an entry adds to a message besides its command.
const ENTRY_OVERHEAD_BYTES: usize = 48;

/// Entries of about this many bytes go into one message, so that one message does not hold up a connection.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The size of an entry on the wire, roughly.
pub(crate) fn entry_bytes(entry: &LogEntry) -> usize {
    let command = match &entry.command {
        Command::Noop => 0,
        Command::Normal(bytes) => bytes.len(),
        Command::Membership(m) => m.members.len() * 8,
    };
    ENTRY_OVERHEAD_BYTES + command
}

/// How many of `entries` fit into one message; at least one where there is one.
pub(crate) fn message_len(entries: &[LogEntry]) -> usize {
    let mut bytes = 0;
    for (i, entry) in entries.iter().enumerate() {
        bytes += entry_bytes(entry);
        if bytes > MESSAGE_BYTES_MAX {
            return i.max(1);
        }
    }
    entries.len()
}

#[derive(Debug)]
pub(crate) struct Log {
    truncated: Slot,
    chosen: Slot,
    entries: BTreeMap<Slot, LogEntry>,
}

impl Log {
    /// A log as loaded after a restart; `commit` and `applied` are the known lower bounds of the chosen prefix.
    ///
    /// The data engine may be ahead of the log, since it applies what a quorum has, not what this node has written: the
    /// log then starts after `applied`.
    pub(crate) fn recovered(truncated: Slot, applied: Slot, commit: Slot, entries: Vec<LogEntry>) -> Self {
        assert!(
            truncated <= applied,
            "the log is truncated through {truncated} but the data engine has applied only through {applied}"
        );
        let mut log = Log { truncated, chosen: applied, entries: BTreeMap::new() };
        for entry in entries {
            assert!(
                entry.slot > truncated,
                "slot {} was loaded from below the truncation at {truncated}",
                entry.slot
            );
            log.entries.insert(entry.slot, entry);
        }
        let held = log.entries.range(..=applied).count() as u64;
        if held != applied.get() - truncated.get() {
            log.entries = log.entries.split_off(&applied.next());
            log.truncated = applied;
        }
        while log.chosen < commit && log.entries.contains_key(&log.chosen.next()) {
            log.chosen = log.chosen.next();
        }
        log
    }

    pub(crate) fn truncated(&self) -> Slot {
        self.truncated
    }

    /// Everything up to here is chosen.
    pub(crate) fn chosen(&self) -> Slot {
        self.chosen
    }

    /// The highest slot in use.
    pub(crate) fn last(&self) -> Slot {
        self.entries.last_key_value().map_or(self.chosen, |(s, _)| (*s).max(self.chosen))
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&LogEntry> {
        self.entries.get(&slot)
    }

    /// The entries from `from` on, in order; may have gaps above the chosen prefix.
    pub(crate) fn from(&self, from: Slot) -> impl Iterator<Item = &LogEntry> + '_ {
        self.entries.range(from..).map(|(_, e)| e)
    }

    /// Stores an accepted entry. Returns false where the slot already holds it, so that nothing need be written.
    ///
    /// A chosen slot keeps its entry: whatever a legitimate leader proposes for it is the same command.
    pub(crate) fn accept(&mut self, entry: &LogEntry) -> bool {
        if entry.slot <= self.chosen {
            if let Some(held) = self.entries.get(&entry.slot) {
                assert_same_command(held, entry);
            }
            return false;
        }
        if let Some(held) = self.entries.get(&entry.slot) {
            if held.ballot == entry.ballot {
                assert_same_command(held, entry);
                return false;
            }
            assert!(
                held.ballot < entry.ballot,
                "slot {} would go back to ballot {}",
                entry.slot,
                entry.ballot
            );
        }
        self.entries.insert(entry.slot, entry.clone());
        true
    }

    /// Stores an entry that is known chosen, next in order. Returns false where the slot already holds it at the same
    /// or a higher ballot, which by Paxos is the same command.
    pub(crate) fn learn(&mut self, entry: &LogEntry) -> bool {
        assert_eq!(entry.slot, self.chosen.next(), "chosen entries are learned in order");
        if let Some(held) = self.entries.get(&entry.slot)
            && held.ballot >= entry.ballot
        {
            assert_same_command(held, entry);
            return false;
        }
        self.entries.insert(entry.slot, entry.clone());
        true
    }

    /// Extends the chosen prefix by one slot and returns its entry.
    pub(crate) fn choose_next(&mut self) -> &LogEntry {
        self.chosen = self.chosen.next();
        let entry = self.entries.get(&self.chosen);
        entry.unwrap_or_else(|| panic!("slot {} was chosen but is not in the log", self.chosen))
    }

    /// Drops everything up to `slot`.
    pub(crate) fn truncate(&mut self, slot: Slot) {
        assert!(slot <= self.chosen, "slot {slot} would be truncated before it is chosen");
        self.entries = self.entries.split_off(&slot.next());
        self.truncated = self.truncated.max(slot);
    }

    /// Starts the log after a snapshot that covers everything up to `slot`.
    pub(crate) fn restart_after(&mut self, slot: Slot) {
        self.chosen = self.chosen.max(slot);
        self.truncate(slot);
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.truncated <= self.chosen,
            "truncated {} is above chosen {}",
            self.truncated,
            self.chosen
        );
        let held = self.entries.range(..=self.chosen).count() as u64;
        assert_eq!(held, self.chosen.get() - self.truncated.get(), "the chosen prefix has a gap");
        if let Some((first, _)) = self.entries.first_key_value() {
            assert!(*first > self.truncated, "slot {first} survived the truncation at {}", self.truncated);
        }
    }
}

/// I-2 at the place where it would be broken.
fn assert_same_command(held: &LogEntry, other: &LogEntry) {
    assert!(
        held.command == other.command,
        "I-2: slot {} holds one command at ballot {} and another at ballot {}",
        held.slot,
        held.ballot,
        other.ballot
    );
}
