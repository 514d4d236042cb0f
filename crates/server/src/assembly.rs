//! A member of a cluster on this machine: its folder, its address book, its SQL port.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration as StdDuration, Instant};

use async_trait::async_trait;
use meridian_member::{Decommissioned, Member as Store, MemberConfig};
use meridian_node::{NodeClock, NodeOptions};
use meridian_pgwire_server::PgServer;
use meridian_rpc::admin::{
    AdminError, BootstrapRequest, Departure, NodeAddress, NodeStatus, TransactionStatus,
};
use meridian_rpc::peer::Transport;
use meridian_session::SessionFactory;
use meridian_shard::LockStatus;
use meridian_types::NodeId;
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::admin::{Admin, Membership, Running};
use crate::identity::Folder;
use crate::nodes::PeerNodes;
use crate::peers::Peers;

/// How often a node looks which others have been decommissioned.
const DEPARTURES_EVERY: StdDuration = StdDuration::from_secs(3);

/// A node that is asked to empty another one answers after so long, and after a move at the least.
const DEPARTURE_ROUND: StdDuration = StdDuration::from_secs(5);

/// What a member is put together from.
pub(crate) struct Parts {
    pub(crate) folder: Arc<Folder>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) clock: Arc<NodeClock>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) pg: PgServer,
    /// Set once SQL is served.
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) shards_per_table: u32,
    pub(crate) shutdown: CancellationToken,
}

/// A running member.
pub(crate) struct Member {
    store: Arc<Store>,
    /// Other nodes of this process hold it weakly.
    _admin: Arc<Admin>,
    serving: tokio::task::JoinHandle<()>,
}

impl Member {
    /// Stops serving and then the store. Safe to be dropped afterwards.
    pub(crate) async fn stop(self) {
        // A session in the middle of a statement may take its time; the store stops under it.
        if tokio::time::timeout(StdDuration::from_secs(3), self.serving).await.is_err() {
            tracing::warn!("sessions were still busy at the stop");
        }
        let node = self.store.node.clone();
        // Joins threads: not on a thread of the runtime.
        let stopped = tokio::task::spawn_blocking(move || node.stop()).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "the store did not stop cleanly");
        }
    }
}

/// Starts a member and waits until it serves SQL.
///
/// # Errors
/// The folder's engines fail.
pub(crate) async fn start(parts: Parts, membership: Membership) -> Result<Member, ServerError> {
    let Parts { folder, admin, peers, clock, transport, pg, ready, shards_per_table, shutdown } = parts;
    let storage = |error| ServerError::Bootstrap { detail: format!("storage: {error}") };
    let store = Store::open(MemberConfig {
        me: NodeAddress { node: membership.identity.node, ..admin.me() },
        data: folder.data.clone(),
        log: folder.log.clone(),
        horizons: folder.horizons.clone(),
        clock,
        transport,
        nodes: Arc::new(PeerNodes::new(peers.clone())),
        known: peers.addresses(),
        seed: rand::random(),
        disk: None,
        options: NodeOptions::default(),
        shards_per_table,
        sql: pg.local_addr().ok(),
    });
    let store = Arc::new(store.map_err(storage)?);
    if let Some(request) = &membership.request {
        store.create_replicas(request).map_err(storage)?;
        // Without shards it is a peer's word, which came before the plan.
        if !request.shards.is_empty() {
            folder.advance_plan(|plan| plan.created = true)?;
        }
    }
    let served: Arc<OnceLock<SessionFactory>> = Arc::default();
    let running = RunningMember {
        store: store.clone(),
        peers: peers.clone(),
        open_sessions: Box::new(pg.open_sessions()),
        sessions: served.clone(),
        started: Instant::now(),
    };
    admin.set_running(Arc::new(running));
    let first = folder.plan()?.map(|plan| plan.nodes.iter().map(|n| n.node).collect());
    let sessions = store.serve(first, &shutdown).await?;
    assert!(served.set(sessions.clone()).is_ok(), "a member serves SQL once");
    // Ends with the shutdown.
    let looking = look_for_departures(store.clone(), admin.clone(), shutdown.clone());
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(looking));
    ready.store(true, Ordering::Release);
    let serving = tokio::spawn(pg.serve(sessions, shutdown));
    Ok(Member { store, _admin: admin, serving })
}

/// Learns which nodes have been decommissioned. Where this is one of them, it ends.
async fn look_for_departures(store: Arc<Store>, admin: Arc<Admin>, shutdown: CancellationToken) {
    loop {
        match store.gone().await {
            Ok(gone) if gone.contains(&admin.me().node) => admin.departed.cancel(),
            Ok(gone) => {
                admin.forget(gone);
                if let Err(error) = store.silence_the_gone().await {
                    tracing::debug!(%error, "the records of nodes that have left could not be written");
                }
            }
            Err(error) => tracing::debug!(%error, "the records of nodes could not be read"),
        }
        if tokio::time::timeout(DEPARTURES_EVERY, admin.departed.cancelled()).await.is_ok() {
            tracing::error!("{Decommissioned}");
            return shutdown.cancel();
        }
    }
}

/// The running part of the answers to operators.
struct RunningMember {
    store: Arc<Store>,
    peers: Arc<Peers>,
    open_sessions: Box<dyn Fn() -> usize + Send + Sync>,
    /// Once SQL is served.
    sessions: Arc<OnceLock<SessionFactory>>,
    started: Instant,
}

#[async_trait]
impl Running for RunningMember {
    fn status(&self, status: &mut NodeStatus) {
        let Store { node, gateway, .. } = &*self.store;
        status.clock = node.clock().status();
        status.replicas = node.status();
        status.sessions = (self.open_sessions)() as u64;
        status.transactions = gateway.local_transactions(usize::MAX).len() as u64;
        status.draining = self.store.is_drained();
        status.disk_failed = node.is_disk_failed();
        status.uptime_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        status.counters = node.counters().list();
        status.counters.extend(gateway.counters().map(|(name, value)| (name.to_owned(), value)));
        if let Some(sessions) = self.sessions.get() {
            status.counters.extend(sessions.counters());
        }
    }

    fn locks(&self, limit: usize) -> Vec<LockStatus> {
        self.store.node.locks(limit)
    }

    fn transactions(&self, limit: usize) -> Vec<TransactionStatus> {
        let open = self.store.gateway.local_transactions(limit);
        open.into_iter().map(|(txn, buffered_bytes)| TransactionStatus { txn, buffered_bytes }).collect()
    }

    async fn publish_catalog(&self, version: u64) -> Result<(), AdminError> {
        self.store.catalog.publish(version).await.map_err(|e| AdminError::Failed { detail: e.to_string() })
    }

    async fn admit(&self, node: &NodeAddress) -> Result<NodeId, AdminError> {
        // The first nodes were numbered without the counter.
        let known = self.peers.addresses().iter().map(|n| n.node).max().unwrap_or_default();
        let id = self.store.cluster.admit(node.folder, known).await;
        let id = id.map_err(|e| AdminError::Failed { detail: e.to_string() })?;
        tracing::info!(id = id.get(), address = node.address, "a node joins");
        Ok(id)
    }

    async fn drain(&self) -> Result<u64, AdminError> {
        Ok(self.store.drain().await)
    }

    async fn decommission(&self, node: NodeId) -> Result<Departure, AdminError> {
        let until = Instant::now() + DEPARTURE_ROUND;
        loop {
            let left = self.store.decommission(node).await;
            let left = left.map_err(|e| AdminError::Failed { detail: e.to_string() })?;
            let replicas_left = left.unwrap_or_default() as u64;
            if left.is_none() || Instant::now() >= until {
                return Ok(Departure { node, replicas_left, is_out: left.is_none() });
            }
        }
    }

    fn create(&self, request: &BootstrapRequest) -> Result<(), AdminError> {
        self.store.create_replicas(request).map_err(|e| AdminError::Failed { detail: e.to_string() })
    }

    fn peers_changed(&self) {
        self.store.set_known(&self.peers.addresses());
    }
}
