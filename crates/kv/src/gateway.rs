//! The gateway itself: what transactions, the map and the background share.

use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use meridian_kv_api::{Kv, KvError, KvTxn, KvWrite, ReadOnlyOptions, ReadWriteOptions};
use meridian_rpc::ShardClient;
use meridian_types::{NodeId, SeededRng, Timestamp, TtInterval, TxnId};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::admin::NodeAdmin;
use crate::heartbeat::Live;
use crate::hedge::Hedging;
use crate::ids::IdSource;
use crate::router::Router;
use crate::snapshot::Snapshot;
use crate::txn::Txn;

/// TrueTime as the gateway needs it.
pub trait Clock: Send + Sync {
    /// The interval that holds absolute time, or `None` while the node can't bound its clock.
    fn now(&self) -> Option<TtInterval>;
}

/// What a gateway is told at its start.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The nodes that hold the root shard, as far as is known at the start.
    pub bootstrap: Vec<NodeId>,
    /// Seed of the pauses between attempts.
    pub seed: u64,
}

/// A node's way to the shards. Clones share one gateway.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) core: Arc<Core>,
}

pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) client: Arc<dyn ShardClient>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) router: Router,
    pub(crate) live: Live,
    pub(crate) hedging: Hedging,
    pub(crate) admin: OnceLock<Arc<dyn NodeAdmin>>,
    ids: IdSource,
    rng: Mutex<SeededRng>,
    /// For background work that needs the whole of it.
    pub(crate) me: Weak<Core>,
    runtime: Handle,
}

impl Gateway {
    /// A gateway on the node of `client`. Must be called within a tokio runtime, on which it runs its background
    /// work: heartbeats (they end when the last clone is dropped) and what follows a commit.
    pub fn new(client: Arc<dyn ShardClient>, clock: Arc<dyn Clock>, config: &GatewayConfig) -> Self {
        let node = client.local_node();
        let core = Arc::new_cyclic(|me| Core {
            node,
            client,
            clock,
            router: Router::new(&config.bootstrap),
            live: Live::default(),
            hedging: Hedging::default(),
            admin: OnceLock::new(),
            ids: IdSource::new(node),
            rng: Mutex::new(SeededRng::new(config.seed)),
            me: Weak::clone(me),
            runtime: Handle::current(),
        });
        core.runtime.spawn(crate::heartbeat::run(Arc::downgrade(&core)));
        Gateway { core }
    }

    /// Gives the gateway the means to ask other nodes for their replicas, by which it repairs the shard map after a
    /// split whose author died. Once; later calls are ignored.
    pub fn set_node_admin(&self, admin: Arc<dyn NodeAdmin>) {
        let _ = self.core.admin.set(admin);
    }

    /// Tells which nodes there are, so that the root shard is found wherever it is.
    pub fn set_nodes(&self, nodes: Vec<NodeId>) {
        self.core.router.set_nodes(nodes);
    }

    /// What the gateway has counted since its start, by name.
    pub fn counters(&self) -> [(&'static str, u64); 2] {
        let (sent, won) = self.core.hedging.counts();
        [("hedged_reads", sent), ("hedged_reads_won", won)]
    }

    /// The read-write transactions that are open on this gateway, with the bytes that each has buffered.
    pub fn local_transactions(&self, limit: usize) -> Vec<(TxnId, u64)> {
        self.core.live.list(limit)
    }
}

impl Core {
    pub(crate) fn now(&self) -> Result<TtInterval, KvError> {
        let unsure = || KvError::Unavailable { detail: "the node can't bound its clock".into() };
        self.clock.now().ok_or_else(unsure)
    }

    /// An id for a transaction. Its age is the middle of what the clock says: by the latest time of a node whose clock is
    /// less sure than others', its transactions would count as younger than they are, and lose. `None` on a node that never
    /// knew the time.
    pub(crate) fn next_id(&self, retry_of: Option<TxnId>) -> Option<TxnId> {
        self.ids.next(self.clock.now().map(TtInterval::midpoint), retry_of)
    }

    /// A random part of `pause`, at least half of it.
    pub(crate) fn jitter(&self, pause: Duration) -> Duration {
        let ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX).max(2);
        let half = ns / 2;
        Duration::from_nanos(half + self.rng.lock().below(ns - half))
    }

    /// Runs what nobody waits for. It ends by itself: each such task has a bounded number of attempts.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a task to its end even when the caller stops waiting for it.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, KvError>> + Send + 'static,
    ) -> Result<T, KvError> {
        match self.runtime.spawn(task).await {
            Ok(result) => result,
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(KvError::Ambiguous),
            },
        }
    }

    /// Waits until absolute time is past `t` for certain.
    pub(crate) async fn wait_past(&self, t: Timestamp) {
        loop {
            let pause = match self.clock.now() {
                Some(now) if now.after(t) => return,
                Some(now) => t.since(now.earliest()).into(),
                None => crate::limits::PAUSE_MAX,
            };
            tokio::time::sleep(pause + Duration::from_nanos(1)).await;
        }
    }
}

#[async_trait]
impl Kv for Gateway {
    fn now(&self) -> Result<TtInterval, KvError> {
        self.core.now()
    }

    fn begin(&self, options: ReadWriteOptions) -> Box<dyn KvTxn> {
        Box::new(Txn::begin(Arc::clone(&self.core), options))
    }

    fn begin_read_only(&self, options: ReadOnlyOptions) -> Box<dyn KvTxn> {
        Box::new(Snapshot::new(Arc::clone(&self.core), options))
    }

    async fn fill(
        &self,
        at: Timestamp,
        until: Timestamp,
        writes: Vec<KvWrite>,
    ) -> Result<Timestamp, KvError> {
        self.core.fill(at, until, writes).await
    }
}
