//! The open transactions of this gateway, and the heartbeats that keep their locks.
//!
//! A leader drops the locks of a transaction that is silent for `TXN_EXPIRY`. One task tells the leaders which
//! transactions live, one message per shard. A transaction is passed over in the first round that sees it, so that
//! short ones cost no message; its age is then between one and two rounds, well below the expiry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use meridian_shard::Request;
use meridian_types::{GroupId, TxnId, limits::TXN_HEARTBEAT};
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::gateway::Core;
use crate::patience::Stop;
use crate::router::Shard;
use crate::txn::{Touched, TxnState};

/// A power of two, so that the shard of an id is a mask. Begins and ends of transactions on different cores should
/// rarely meet in one mutex.
const STRIPES: usize = 16;

/// The registry of open transactions.
#[derive(Default)]
pub(crate) struct Live {
    stripes: [Mutex<BTreeMap<TxnId, Arc<LiveTxn>>>; STRIPES],
}

/// What others may see of an open transaction.
pub(crate) struct LiveTxn {
    pub(crate) state: Mutex<TxnState>,
    pub(crate) stop: Stop,
    was_seen: AtomicBool,
}

impl LiveTxn {
    pub(crate) fn new(state: TxnState) -> Arc<Self> {
        Arc::new(LiveTxn {
            state: Mutex::new(state),
            stop: Stop::default(),
            was_seen: AtomicBool::new(false),
        })
    }
}

impl Live {
    fn stripe(&self, id: TxnId) -> &Mutex<BTreeMap<TxnId, Arc<LiveTxn>>> {
        &self.stripes[id.seq as usize % STRIPES]
    }

    pub(crate) fn add(&self, id: TxnId, txn: Arc<LiveTxn>) {
        let other = self.stripe(id).lock().insert(id, txn);
        assert!(other.is_none(), "two open transactions have the id {id}");
    }

    pub(crate) fn remove(&self, id: TxnId) {
        self.stripe(id).lock().remove(&id);
    }

    /// Adds a shard to those that are told of a transaction, if it is still open.
    pub(crate) fn touch(&self, id: TxnId, touched: Touched) {
        let txn = self.stripe(id).lock().get(&id).cloned();
        if let Some(txn) = txn {
            let mut state = txn.state.lock();
            if state.shards().all(|shard| shard.group() != touched.shard.group()) {
                state.touched.push(touched);
            }
        }
    }

    pub(crate) fn list(&self, limit: usize) -> Vec<(TxnId, u64)> {
        let mut all: Vec<_> = self
            .stripes
            .iter()
            .flat_map(|stripe| {
                let stripe = stripe.lock();
                let info = stripe.iter().map(|(id, txn)| (*id, txn.state.lock().buffered_bytes()));
                info.collect::<Vec<_>>()
            })
            .collect();
        all.sort();
        all.truncate(limit);
        all
    }

    /// Whom to tell of what in this round.
    fn due(&self) -> BTreeMap<GroupId, (Arc<Shard>, Vec<TxnId>)> {
        let mut due: BTreeMap<GroupId, (Arc<Shard>, Vec<TxnId>)> = BTreeMap::new();
        for stripe in &self.stripes {
            for (id, txn) in stripe.lock().iter() {
                if !txn.was_seen.swap(true, Ordering::Relaxed) {
                    continue;
                }
                for shard in txn.state.lock().shards() {
                    due.entry(shard.group()).or_insert_with(|| (Arc::clone(shard), Vec::new())).1.push(*id);
                }
            }
        }
        due
    }
}

/// The heartbeats of a gateway, until it is gone.
pub(crate) async fn run(core: Weak<Core>) {
    let mut rounds = tokio::time::interval(TXN_HEARTBEAT.into());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let Some(core) = core.upgrade() else { return };
        beat(&core);
    }
}

/// One round. Answers are not waited for: a lost message is made good by the next round, and a shard that has lost the
/// locks tells the transaction itself when it comes back.
pub(crate) fn beat(core: &Core) {
    for (group, (shard, ids)) in core.live.due() {
        drop(core.client.call(core.leader_or_guess(&shard), group, Request::Heartbeat { ids }));
    }
}
