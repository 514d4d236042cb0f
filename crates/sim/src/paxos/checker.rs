//! What must hold over all replicas at once.

use std::collections::BTreeMap;
use std::fmt;

use meridian_paxos::{Command, LogEntry, Membership};
use meridian_types::{Duration, NodeId, Slot, Timestamp};

/// What was found broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// I-2: two commands were chosen in one slot.
    TwoCommands {
        /// Where.
        slot: Slot,
        /// Who saw the first.
        first: NodeId,
        /// Who saw the other.
        second: NodeId,
    },
    /// A replica emitted a slot out of order.
    OutOfOrder {
        /// Who.
        node: NodeId,
        /// What it should have emitted.
        expected: Slot,
        /// What it emitted.
        slot: Slot,
    },
    /// I-4: two nodes hold the lease at one moment.
    TwoLeaders {
        /// One.
        first: NodeId,
        /// The other.
        second: NodeId,
    },
    /// I-5: a timestamp is not above those assigned before.
    TimestampWentBack {
        /// Who assigned it.
        node: NodeId,
        /// What it assigned.
        assigned: Timestamp,
        /// Who had assigned more.
        before_node: NodeId,
        /// How much.
        before: Timestamp,
    },
    /// Nothing is chosen although nothing is wrong any more.
    NoProgress {
        /// What was chosen before.
        chosen: Slot,
    },
    /// A replica did not catch up although nothing is wrong any more.
    LeftBehind {
        /// Who.
        node: NodeId,
        /// How far it is.
        commit: Slot,
        /// How far the others are.
        chosen: Slot,
    },
    /// A replica asks to be woken again and again at one moment.
    Spinning,
    /// An assertion in the core failed.
    Assertion {
        /// Its message.
        message: String,
    },
}

/// A violated invariant, with what is needed to see it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// Virtual time since the start.
    pub at: Duration,
    /// What broke.
    pub broken: Broken,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} after {:?} of virtual time: {:?}", self.seed, self.at, self.broken)
    }
}

impl std::error::Error for Violation {}

#[derive(Debug)]
pub(super) struct Checker {
    initial: Membership,
    chosen: BTreeMap<Slot, (NodeId, Command)>,
    memberships: BTreeMap<Slot, Membership>,
    last_timestamp: (Timestamp, NodeId),
}

impl Checker {
    pub(super) fn new(initial: Membership) -> Self {
        Checker {
            initial,
            chosen: BTreeMap::new(),
            memberships: BTreeMap::new(),
            last_timestamp: (Timestamp::ZERO, NodeId::default()),
        }
    }

    /// `node` was told that `entry` is chosen.
    pub(super) fn chosen(&mut self, node: NodeId, entry: &LogEntry) -> Result<(), Broken> {
        let known = self.chosen.entry(entry.slot).or_insert_with(|| (node, entry.command.clone()));
        if known.1 != entry.command {
            return Err(Broken::TwoCommands { slot: entry.slot, first: known.0, second: node });
        }
        if let Command::Membership(m) = &entry.command {
            self.memberships.insert(entry.slot, m.clone());
        }
        Ok(())
    }

    pub(super) fn assigned(&mut self, node: NodeId, timestamp: Timestamp) -> Result<(), Broken> {
        let (before, before_node) = self.last_timestamp;
        if timestamp <= before {
            return Err(Broken::TimestampWentBack { node, assigned: timestamp, before_node, before });
        }
        self.last_timestamp = (timestamp, node);
        Ok(())
    }

    pub(super) fn leading(&self, mut leaders: impl Iterator<Item = NodeId>) -> Result<(), Broken> {
        match (leaders.next(), leaders.next()) {
            (Some(first), Some(second)) => Err(Broken::TwoLeaders { first, second }),
            _ => Ok(()),
        }
    }

    /// The highest slot that anybody knows chosen.
    pub(super) fn last(&self) -> Slot {
        self.chosen.last_key_value().map_or(Slot::ZERO, |(s, _)| *s)
    }

    pub(super) fn reconfigurations(&self) -> u64 {
        self.memberships.len() as u64
    }

    /// The membership that the state after `slot` has.
    pub(super) fn membership_at(&self, slot: Slot) -> &Membership {
        self.memberships.range(..=slot).next_back().map_or(&self.initial, |(_, m)| m)
    }
}
