//! Identifiers.

use std::fmt;

use crate::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the raw number.
            pub const fn new(raw: $inner) -> Self {
                $name(raw)
            }

            /// The raw number, for encodings.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// A node of the cluster. 1-based; 0 is never a node. At most one replica of a group lives on a node, so a node
    /// id also names a replica within its group.
    NodeId, u32, "n"
}
id! {
    /// A Paxos group, which is the replicated form of one shard. Never reused.
    GroupId, u64, "g"
}
id! {
    /// A position in a group's log. The first entry has slot 1; 0 stands for "none yet".
    Slot, u64, "#"
}
id! {
    /// The identity of a cluster, drawn at random when it is initialised.
    ClusterId, u128, "c"
}
id! {
    /// A data folder, drawn at random when it is made. What a node has promised is in its folder, so a node id belongs to
    /// one folder for ever; 0 where the folder is not known.
    FolderId, u128, "f"
}

impl Slot {
    /// Before the first entry.
    pub const ZERO: Slot = Slot(0);

    /// The following slot.
    pub const fn next(self) -> Slot {
        Slot(self.0 + 1)
    }

    /// The slot before, or zero.
    pub const fn prev(self) -> Slot {
        Slot(self.0.saturating_sub(1))
    }
}

/// A ballot: `(round, node)`, ordered by round first. [`Ballot::ZERO`] is below every ballot in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ballot {
    /// Counts attempts to lead.
    pub round: u64,
    /// Who attempts; makes ballots of different nodes distinct.
    pub node: NodeId,
}

impl Ballot {
    /// Below every ballot in use.
    pub const ZERO: Ballot = Ballot { round: 0, node: NodeId::new(0) };

    /// The ballot `(round, node)`.
    pub const fn new(round: u64, node: NodeId) -> Self {
        Ballot { round, node }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.node)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A transaction.
///
/// `first_start` is the time at which the *first* attempt began; a retry keeps it, and wound-wait orders by it
/// (smaller is older and wins). `node` and `seq` make the id unique: a retry gets a new `seq`, so attempts never
/// share an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId {
    /// When the first attempt began.
    pub first_start: Timestamp,
    /// The gateway.
    pub node: NodeId,
    /// Unique on the gateway over all its incarnations.
    pub seq: u64,
}

impl TxnId {
    /// True when `self` has priority over `other` under wound-wait. Total: ties break by gateway and sequence.
    pub fn is_older_than(&self, other: &TxnId) -> bool {
        self < other
    }
}

impl fmt::Debug for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}-{}-{}", self.first_start.as_nanos(), self.node, self.seq)
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
