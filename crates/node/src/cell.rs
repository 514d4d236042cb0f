//! One replica on this node: the state machine behind its lock, and who waits for its answers.
//!
//! ```text
//!   Serving --snapshot complete--> Installing --installed--> Serving
//!      |                                |
//!      +---------- node stops ----------+--> Stopped
//! ```
//! Invariant: the lock is never held across an fsync, an await, or a call into another node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};

use meridian_rpc::CallError;
use meridian_shard::{Outputs, Replica, RequestId, Response, Serve, ShardError};
use meridian_types::{GroupId, NodeId, Slot, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::demand::Demand;
use crate::resting::{NEVER_IDLE, Rest};

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A gateway on this node.
    Local(oneshot::Sender<Result<Response, CallError>>),
    /// A gateway on another node.
    Remote {
        /// Which node.
        peer: NodeId,
        /// Its name for the call.
        call: u64,
    },
}

/// What a cell may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Serving,
    /// A snapshot replaces the data; requests are redirected and messages dropped.
    Installing,
    /// The node has stopped: whatever comes is dropped, so that nothing is written to the engines any more.
    Stopped,
}

pub(crate) struct Core {
    pub(crate) replica: Replica,
    pub(crate) outputs: Outputs,
    pub(crate) waiters: BTreeMap<RequestId, Waiter>,
    pub(crate) phase: Phase,
    pub(crate) is_leading: bool,
    /// The data engine holds everything up to here.
    pub(crate) applied: Slot,
    /// The data engine has been told to make everything up to here durable.
    pub(crate) durable: Slot,
    /// Batches at the apply thread: while there are any, every later batch goes there too, to keep the order.
    pub(crate) applies_queued: usize,
    /// Whether beats stand in for what the replica would do by itself.
    pub(crate) rest: Rest,
    /// The last slot when it was looked at last, and since when (by the oscillator) it is that.
    pub(crate) idle_at: Slot,
    pub(crate) idle_since: Timestamp,
    /// Where its clients are, while it leads.
    pub(crate) demand: Demand,
}

/// A replica of a group on this node.
pub(crate) struct Cell {
    pub(crate) group: GroupId,
    pub(crate) core: Mutex<Core>,
    /// The oscillator's reading at which the timer will tick it; `u64::MAX` for never.
    pub(crate) scheduled: AtomicU64,
    /// A copy of whether it rests, for those who pass by without the lock.
    pub(crate) rests: AtomicBool,
    /// A copy of the replica's garbage-collection horizon, in nanoseconds, for reads that are done without the lock.
    pub(crate) horizon: AtomicU64,
    /// Held shared while a read is served outside of the lock, exclusively while a snapshot replaces the data.
    pub(crate) data: RwLock<()>,
}

impl Cell {
    pub(crate) fn new(group: GroupId, replica: Replica, applied: Slot) -> Self {
        Cell {
            group,
            horizon: AtomicU64::new(replica.gc_horizon().as_nanos()),
            core: Mutex::new(Core {
                replica,
                outputs: Outputs::default(),
                waiters: BTreeMap::new(),
                phase: Phase::Serving,
                is_leading: false,
                applied,
                durable: Slot::ZERO,
                applies_queued: 0,
                rest: Rest::Awake,
                idle_at: NEVER_IDLE,
                idle_since: Timestamp::ZERO,
                demand: Demand::new(Timestamp::ZERO),
            }),
            scheduled: AtomicU64::new(u64::MAX),
            rests: AtomicBool::new(false),
            data: RwLock::new(()),
        }
    }
}

/// An answer and who gets it.
pub(crate) type Reply = (Waiter, Result<Response, ShardError>);

/// A read to be done outside of the lock, and who gets the answer; `None` is the caller of the step.
pub(crate) type Reading = (Option<Waiter>, Serve);
