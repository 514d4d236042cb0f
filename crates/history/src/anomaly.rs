//! What can be wrong with a history.

use crate::history::{Key, TxnIndex, Value};

/// Why one transaction comes before another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dependency {
    /// The second replaced or followed a version of the first.
    WriteWrite(Key),
    /// The second read what the first wrote.
    WriteRead(Key),
    /// The second wrote what the first did not see yet.
    ReadWrite(Key),
    /// The same as `WriteWrite`, where only real time orders the two versions.
    WriteWriteInTime(Key),
    /// The same as `ReadWrite`, where only real time orders the two versions.
    ReadWriteInTime(Key),
    /// The first had ended before the second began.
    RealTime,
}

impl Dependency {
    pub(crate) fn is_anti(self) -> bool {
        matches!(self, Dependency::ReadWrite(_) | Dependency::ReadWriteInTime(_))
    }

    pub(crate) fn is_of_time(self) -> bool {
        match self {
            Dependency::WriteWrite(_) | Dependency::WriteRead(_) | Dependency::ReadWrite(_) => false,
            Dependency::WriteWriteInTime(_) | Dependency::ReadWriteInTime(_) | Dependency::RealTime => true,
        }
    }
}

/// One step of a cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge {
    /// What comes before.
    pub from: TxnIndex,
    /// What comes after.
    pub to: TxnIndex,
    /// Why.
    pub dependency: Dependency,
}

/// Adya's names for cycles, from the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CycleKind {
    /// Only write-write.
    G0,
    /// Write-write and write-read.
    G1c,
    /// One anti-dependency.
    GSingle,
    /// Several anti-dependencies, no two of them next to each other: a long fork.
    GNonadjacent,
    /// Several anti-dependencies.
    G2Item,
}

/// Transactions each of which comes before the next, and the last before the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cycle {
    /// Which.
    pub kind: CycleKind,
    /// Whether it needs an edge of real time: without, the history would be serializable as far as this cycle goes.
    pub needs_real_time: bool,
    /// The steps; each starts where the one before it ends.
    pub edges: Vec<Edge>,
}

/// Something that no strictly serializable database shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Anomaly {
    /// A read that contradicts what its own transaction read or wrote before.
    Internal {
        /// The transaction.
        txn: TxnIndex,
        /// The key that it read.
        key: Key,
    },
    /// A value that nobody wrote.
    Unwritten {
        /// Who read it.
        reader: TxnIndex,
        /// Where.
        key: Key,
        /// What.
        value: Value,
    },
    /// G1a: a value of a transaction that did not happen.
    AbortedRead {
        /// Who read it.
        reader: TxnIndex,
        /// Who wrote it.
        writer: TxnIndex,
        /// Where.
        key: Key,
        /// What.
        value: Value,
    },
    /// G1b: a value that its own transaction replaced or followed by another.
    IntermediateRead {
        /// Who read it.
        reader: TxnIndex,
        /// Who wrote it.
        writer: TxnIndex,
        /// Where.
        key: Key,
        /// What.
        value: Value,
    },
    /// One append that is in a list twice.
    DuplicateElement {
        /// Who read it.
        reader: TxnIndex,
        /// Where.
        key: Key,
        /// What.
        value: Value,
    },
    /// Two reads that order the elements of a list differently.
    IncompatibleOrder {
        /// One reader.
        first: TxnIndex,
        /// The other.
        second: TxnIndex,
        /// Where.
        key: Key,
    },
    /// Two transactions read one version and both replaced it.
    LostUpdate {
        /// One.
        first: TxnIndex,
        /// The other.
        second: TxnIndex,
        /// Where.
        key: Key,
    },
    /// An acknowledged append that nobody saw, although a read began after it had been answered.
    LostWrite {
        /// Who appended.
        writer: TxnIndex,
        /// Who should have seen it.
        reader: TxnIndex,
        /// Where.
        key: Key,
        /// What.
        value: Value,
    },
    /// A cycle of dependencies.
    Cycle(Cycle),
}

impl CycleKind {
    fn name(self) -> &'static str {
        match self {
            CycleKind::G0 => "G0",
            CycleKind::G1c => "G1c",
            CycleKind::GSingle => "G-single",
            CycleKind::GNonadjacent => "G-nonadjacent",
            CycleKind::G2Item => "G2-item",
        }
    }
}

impl Anomaly {
    /// The literature's name.
    pub fn name(&self) -> String {
        match self {
            Anomaly::Internal { .. } => "internal".into(),
            Anomaly::Unwritten { .. } => "unwritten-read".into(),
            Anomaly::AbortedRead { .. } => "G1a".into(),
            Anomaly::IntermediateRead { .. } => "G1b".into(),
            Anomaly::DuplicateElement { .. } => "duplicate-element".into(),
            Anomaly::IncompatibleOrder { .. } => "incompatible-order".into(),
            Anomaly::LostUpdate { .. } => "lost-update".into(),
            Anomaly::LostWrite { .. } => "lost-write".into(),
            Anomaly::Cycle(cycle) => {
                format!("{}{}", cycle.kind.name(), if cycle.needs_real_time { "-realtime" } else { "" })
            }
        }
    }
}
