//! Bugs of the cores and of the driver that the simulation must find; selectable under the feature `planted-bugs` only.

#[cfg(feature = "planted-bugs")]
use meridian_truetime::Planted as ClockBug;

use super::node::Setup;
use super::world::Cluster;

/// One wrong behaviour of every node.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Of the Paxos core.
    Paxos(meridian_paxos::Planted),
    /// Of the shard core.
    Shard(meridian_shard::Planted),
    /// Of the clock.
    Clock(ClockBug),
    /// Of the driver around the cores.
    Driver(DriverBug),
    /// Of schema changes.
    Schema(SchemaBug),
}

#[cfg(feature = "planted-bugs")]
impl Planted {
    pub(super) fn clock(self) -> Option<ClockBug> {
        match self {
            Planted::Clock(bug) => Some(bug),
            Planted::Paxos(_) | Planted::Shard(_) | Planted::Driver(_) | Planted::Schema(_) => None,
        }
    }
}

/// Bugs of the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public only under the feature"))]
pub enum DriverBug {
    /// A snapshot lacks the prepared transactions (breaks I-9).
    SnapshotWithoutPrepared,
    /// A snapshot is laid over the old rows without erasing them (breaks I-6).
    SnapshotOverOldRows,
    /// The closed timestamp that a leader tells is taken up before its slot is applied (breaks I-8).
    CloseWithoutSlot,
    /// Nodes drop versions that reads above the horizon of their replica still see (breaks I-8).
    SweepTooMuch,
    /// A read is answered although the horizon has passed it since it was let in (breaks I-8).
    ReadPassedByHorizon,
    /// A snapshot begins a replica in a span that is still being erased.
    ErasesUnderSnapshot,
    /// A snapshot from before a removal begins a replica that has forgotten what it accepted (breaks I-2).
    SnapshotFromBefore,
}

/// Bugs of those who change the schema, and of those who write meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public only under the feature"))]
pub enum SchemaBug {
    /// A gateway says that it bounds its commits, and does not.
    SkippedBarrier,
    /// Entries are filled in at the present, above what writers have done since they were read.
    BackfillAtWrongVersion,
    /// Writers leave the entries of values that they replace, while the index is not public.
    DeleteNotPropagated,
    /// A version is stored before every gateway has said that it bounds its commits, or has no lease any more.
    ActivationBeforeLastBarrier,
}

impl Setup {
    #[cfg(feature = "planted-bugs")]
    pub(super) fn schema_bug(&self) -> Option<SchemaBug> {
        match self.planted {
            Some(Planted::Schema(bug)) => Some(bug),
            _ => None,
        }
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the question is the same with and without the feature")]
    pub(super) const fn schema_bug(&self) -> Option<SchemaBug> {
        None
    }
}

impl Cluster {
    #[cfg(feature = "planted-bugs")]
    pub(super) fn has_bug(&self, bug: DriverBug) -> bool {
        self.setup.planted == Some(Planted::Driver(bug))
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the question is the same with and without the feature")]
    pub(super) const fn has_bug(&self, _bug: DriverBug) -> bool {
        false
    }
}
