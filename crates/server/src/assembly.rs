//! A member of a cluster, put together: replicas, gateway, catalog, sessions, SQL port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration as StdDuration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use meridian_catalog::{CatalogCache, CatalogStore};
use meridian_keys::SystemKey;
use meridian_kv::{Clock, ClusterAdmin, Gateway, GatewayConfig, Recoverer};
use meridian_kv_api::{Cluster, Kv, KvError, KvWrite, Locking, ReadWriteOptions};
use meridian_node::{Horizons, Node, NodeClock, NodeConfig, NodeOptions, RecoveryHandler};
use meridian_pgwire_server::PgServer;
use meridian_rpc::admin::{AdminError, BootstrapRequest, NodeAddress, NodeStatus, TransactionStatus};
use meridian_rpc::peer::Transport;
use meridian_session::{ClusterSettings, Roles, ServerSettings, SessionFactory};
use meridian_shard::{LockStatus, Recovery};
use meridian_types::{Duration, GroupId, NodeId, TtInterval};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::admin::{Admin, Membership, Running};
use crate::bootstrap::first_shards;
use crate::identity::Folder;
use crate::nodes::PeerNodes;
use crate::peers::Peers;
use crate::succession;

/// How long a node plans on a catalog without having verified it; see decision 6.
const SCHEMA_LEASE: Duration = Duration::from_secs(3);

/// A member that can't reach the system shard for this long at its start gives up waiting quietly and says so.
const PATIENCE: StdDuration = StdDuration::from_secs(15);

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
    node: Arc<Node>,
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
        let node = self.node;
        // Joins threads: not on a thread of the runtime.
        let stopped = tokio::task::spawn_blocking(move || node.stop()).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "the store did not stop cleanly");
        }
    }
}

/// TrueTime of the node, for its gateway.
struct GatewayClock(Arc<NodeClock>);

impl Clock for GatewayClock {
    fn now(&self) -> Option<TtInterval> {
        self.0.now().tt
    }
}

/// Cross-shard recovery: from the replicas' threads onto the runtime, and by the gateway.
struct Recovering {
    gateway: Gateway,
    runtime: Handle,
}

impl RecoveryHandler for Recovering {
    fn recover(&self, _: GroupId, work: Recovery) {
        let gateway = self.gateway.clone();
        // Bounded by the gateway's own attempts; a replica that is not helped asks again.
        self.runtime.spawn(async move { gateway.recover(work).await });
    }
}

/// Starts a member and waits until it serves SQL.
///
/// # Errors
/// The folder's engines fail.
pub(crate) async fn start(parts: Parts, membership: Membership) -> Result<Member, ServerError> {
    let Parts { folder, admin, peers, clock, transport, pg, ready, shards_per_table, shutdown } = parts;
    let storage = |error| ServerError::Bootstrap { detail: format!("storage: {error}") };
    let node = Node::open(NodeConfig {
        node: membership.identity.node,
        data: folder.data.clone(),
        log: folder.log.clone(),
        clock: clock.clone(),
        transport,
        seed: rand::random(),
        options: NodeOptions::default(),
        horizons: folder.horizons.clone(),
    })
    .map_err(storage)?;
    node.set_peers(&peers.addresses());
    let known: Vec<NodeId> = peers.addresses().iter().map(|n| n.node).collect();
    let config = GatewayConfig { bootstrap: known, seed: rand::random() };
    let gateway = Gateway::new(node.clone(), Arc::new(GatewayClock(clock.clone())), &config);
    node.set_recovery_handler(Arc::new(Recovering { gateway: gateway.clone(), runtime: Handle::current() }));
    if let Some(request) = &membership.request {
        create_replicas(&node, request).map_err(storage)?;
        // Without shards it is a peer's word, which came before the plan.
        if !request.shards.is_empty() {
            folder.advance_plan(|plan| plan.created = true)?;
        }
    }
    let nodes = Arc::new(PeerNodes::new(peers.clone()));
    let lease: StdDuration = SCHEMA_LEASE.into();
    let cluster = Arc::new(ClusterAdmin::new(gateway.clone(), nodes, lease));
    let catalog = Arc::new(CatalogCache::new(Arc::new(gateway.clone()), SCHEMA_LEASE));
    let running = RunningMember {
        node: node.clone(),
        gateway: gateway.clone(),
        cluster: cluster.clone(),
        catalog: catalog.clone(),
        peers: peers.clone(),
        sessions: Box::new(pg.open_sessions()),
        started: Instant::now(),
    };
    admin.set_running(Arc::new(running));
    let first = folder.plan()?.map(|plan| plan.nodes.iter().map(|n| n.node).collect());
    ensure_cluster_records(&gateway, first, &admin.me()).await;
    // Ends with the shutdown.
    tokio::spawn(catalog.clone().run(shutdown.clone().cancelled_owned()));
    retry("load the catalog", || async { catalog.acquire().await.map(drop) }).await;
    let cluster_settings = Arc::new(ClusterSettings::default());
    let roles = Arc::new(Roles::default());
    // Ends with the shutdown.
    let heed =
        heed_settings((cluster_settings.clone(), roles.clone()), gateway.clone(), folder.horizons.clone());
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(heed));
    let succession = succession::run(gateway.clone(), cluster.clone(), admin.me());
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(succession));
    let settings = ServerSettings {
        defaults: vec![("shards_per_table".into(), shards_per_table.to_string())],
        address: pg.local_addr().ok(),
        cluster: cluster_settings,
        roles,
    };
    let sessions = SessionFactory::new(Arc::new(gateway), cluster, catalog, settings);
    // Ends with the shutdown.
    tokio::spawn(sessions.clone().run_jobs(shutdown.clone().cancelled_owned()));
    ready.store(true, Ordering::Release);
    let serving = tokio::spawn(pg.serve(sessions, shutdown));
    Ok(Member { node, _admin: admin, serving })
}

/// Keeps the cluster's settings and the names of its roles fresh, and does what the settings say.
async fn heed_settings(
    (settings, roles): (Arc<ClusterSettings>, Arc<Roles>),
    gateway: Gateway,
    horizons: Arc<Horizons>,
) {
    loop {
        let (settings_read, roles_read) = tokio::join!(settings.refresh(&gateway), roles.refresh(&gateway));
        if let Err(error) = settings_read.and(roles_read) {
            // They stay as they were.
            tracing::debug!(%error, "cluster settings could not be read");
        }
        horizons.set_retention(settings.gc_ttl());
        tokio::time::sleep(StdDuration::from_secs(1)).await;
    }
}

fn create_replicas(node: &Node, request: &BootstrapRequest) -> Result<(), meridian_storage::StorageError> {
    for shard in &request.shards {
        node.bootstrap_group(shard, request.campaign.contains(&shard.group))?;
    }
    Ok(())
}

/// Writes what a new cluster must know of itself, where it is not written yet: the first shards in the shard map (by those
/// that know on which nodes they were made), the first databases, this node's record. Every node does it at every start; it
/// is a few reads once it is done.
async fn ensure_cluster_records(gateway: &Gateway, first: Option<Vec<NodeId>>, me: &NodeAddress) {
    if let Some(first) = first {
        let shards = first_shards(&first);
        retry("write the shard map", || gateway.publish_descriptors(shards.clone())).await;
    }
    retry("create the first databases", || async {
        let txn = gateway.begin(ReadWriteOptions::default());
        let made = CatalogStore::bootstrap(&*txn).await;
        finish(&*txn, made.map(drop).map_err(kv_error)).await
    })
    .await;
    let key = SystemKey::Node(me.node).encode();
    let record = node_record(me);
    retry("write the node's record", || async {
        let txn = gateway.begin(ReadWriteOptions::default());
        let written = async {
            if txn.get(key.clone(), Locking::EXCLUSIVE).await?.as_ref() != Some(&record) {
                txn.write(vec![KvWrite { key: key.clone(), value: Some(record.clone()) }]).await?;
            }
            Ok(())
        };
        let written = written.await;
        finish(&*txn, written).await
    })
    .await;
}

async fn finish(txn: &dyn meridian_kv_api::KvTxn, result: Result<(), KvError>) -> Result<(), KvError> {
    match result {
        Ok(()) => txn.commit().await.map(drop),
        Err(error) => {
            txn.rollback().await;
            Err(error)
        }
    }
}

fn kv_error(error: meridian_catalog::CatalogError) -> KvError {
    match error {
        meridian_catalog::CatalogError::Kv(error) => error,
        other => KvError::Internal { detail: other.to_string() },
    }
}

/// A node's address for the system keyspace, as JSON: operators and other nodes read it.
fn node_record(node: &NodeAddress) -> Bytes {
    let record = serde_json::json!({
        "address": node.address,
        "sql_address": node.sql_address,
        "http_address": node.http_address,
        "region": node.region,
        "zone": node.zone,
        "version": node.version,
    });
    Bytes::from(record.to_string())
}

/// Tries until it succeeds: a starting cluster has no leader for a moment.
async fn retry<T, F: Future<Output = Result<T, KvError>>>(what: &str, mut step: impl FnMut() -> F) -> T {
    let start = Instant::now();
    let mut warned = false;
    loop {
        match step().await {
            Ok(done) => return done,
            Err(error) => {
                if !warned && start.elapsed() > PATIENCE {
                    warned = true;
                    tracing::warn!(%error, "still trying to {what}");
                }
                tokio::time::sleep(StdDuration::from_millis(50)).await;
            }
        }
    }
}

/// The running part of the answers to operators.
struct RunningMember {
    node: Arc<Node>,
    gateway: Gateway,
    cluster: Arc<ClusterAdmin>,
    catalog: Arc<CatalogCache>,
    peers: Arc<Peers>,
    sessions: Box<dyn Fn() -> usize + Send + Sync>,
    started: Instant,
}

#[async_trait]
impl Running for RunningMember {
    fn status(&self, status: &mut NodeStatus) {
        status.clock = self.node.clock().status();
        status.replicas = self.node.status();
        status.sessions = (self.sessions)() as u64;
        status.transactions = self.gateway.local_transactions(usize::MAX).len() as u64;
        status.disk_failed = self.node.is_disk_failed();
        status.uptime_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        status.counters = self.node.counters().list();
    }

    fn locks(&self, limit: usize) -> Vec<LockStatus> {
        self.node.locks(limit)
    }

    fn transactions(&self, limit: usize) -> Vec<TransactionStatus> {
        let open = self.gateway.local_transactions(limit);
        open.into_iter().map(|(txn, buffered_bytes)| TransactionStatus { txn, buffered_bytes }).collect()
    }

    async fn publish_catalog(&self, version: u64) -> Result<(), AdminError> {
        self.catalog.publish(version).await.map_err(|e| AdminError::Failed { detail: e.to_string() })
    }

    async fn admit(&self, node: &NodeAddress) -> Result<NodeId, AdminError> {
        // The first nodes were numbered without the counter.
        let known = self.peers.addresses().iter().map(|n| n.node).max().unwrap_or_default();
        let id = self.cluster.admit(node.folder, known).await;
        let id = id.map_err(|e| AdminError::Failed { detail: e.to_string() })?;
        tracing::info!(id = id.get(), address = node.address, "a node joins");
        Ok(id)
    }

    async fn drain(&self) -> Result<u64, AdminError> {
        let me = self.node.descriptors();
        for group in self.node.led_groups() {
            let Some(descriptor) = me.iter().find(|d| d.group == group) else { continue };
            let own = self.peers.me();
            let successors = descriptor.replicas.iter().map(|(n, _)| *n).filter(|n| Some(*n) != own);
            for successor in successors {
                if self.cluster.transfer_leader(group.get(), successor).await.is_ok() {
                    break;
                }
            }
        }
        Ok(self.node.led_groups().len() as u64)
    }

    fn create(&self, request: &BootstrapRequest) -> Result<(), AdminError> {
        create_replicas(&self.node, request).map_err(|e| AdminError::Failed { detail: e.to_string() })
    }

    fn peers_changed(&self) {
        let addresses = self.peers.addresses();
        self.node.set_peers(&addresses);
        self.gateway.set_nodes(addresses.iter().map(|n| n.node).collect());
    }
}
