//! One member.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meridian_catalog::CatalogCache;
use meridian_catalog::Licence;
use meridian_keys::SystemKey;
use meridian_kv::nodes::{self, Decommissioned};
use meridian_kv::{Clock, ClusterAdmin, Gateway, GatewayConfig, NodeAdmin, Recoverer};
use meridian_kv_api::{Cluster, KvError};
use meridian_node::{DiskModel, Horizons, Node, NodeClock, NodeConfig, NodeOptions, RecoveryHandler};
use meridian_rpc::admin::{BootstrapRequest, NodeAddress};
use meridian_rpc::peer::Transport;
use meridian_session::{ClusterSettings, Roles, ServerSettings, SessionFactory};
use meridian_shard::Recovery;
use meridian_storage::{Engine, StorageError};
use meridian_types::{Duration, GroupId, NodeId, TtInterval};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{leaders, records, succession};

/// How long a node plans on a catalog without having verified it; see decision 6.
const SCHEMA_LEASE: Duration = Duration::from_secs(3);

/// What a member is put together from.
pub struct MemberConfig {
    /// Who and where it is.
    pub me: NodeAddress,
    /// Rows, and the states of replicas.
    pub data: Arc<dyn Engine>,
    /// The log of its replicas.
    pub log: Arc<dyn Engine>,
    /// Shared with the compactions of `data`.
    pub horizons: Arc<Horizons>,
    /// TrueTime.
    pub clock: Arc<NodeClock>,
    /// The way to the other nodes' replicas.
    pub transport: Arc<dyn Transport>,
    /// The way to the rest of other nodes, and of this one.
    pub nodes: Arc<dyn NodeAdmin>,
    /// The address book at the start, with this node.
    pub known: Vec<NodeAddress>,
    /// Seed of all that is random here. Drawn anew at each start.
    pub seed: u64,
    /// Where there is one, the member is driven by tasks ([`Node::open_driven`]).
    pub disk: Option<DiskModel>,
    /// What may be tuned on its store.
    pub options: NodeOptions,
    /// Into how many shards a new table is split where nobody says otherwise.
    pub shards_per_table: u32,
    /// Where SQL is served.
    pub sql: Option<SocketAddr>,
}

/// A member of a cluster.
pub struct Member {
    /// The replicas here.
    pub node: Arc<Node>,
    /// Transactions.
    pub gateway: Gateway,
    /// Operators' view of the cluster.
    pub cluster: Arc<ClusterAdmin>,
    /// The schema, as this node plans on it.
    pub catalog: Arc<CatalogCache>,
    me: NodeAddress,
    horizons: Arc<Horizons>,
    shards_per_table: u32,
    sql: Option<SocketAddr>,
    seed: u64,
    /// Leadership was given away, and is not to come back.
    drained: AtomicBool,
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

impl Member {
    /// Recovers what the engines hold, and starts.
    ///
    /// # Errors
    /// An engine fails.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn open(config: MemberConfig) -> Result<Member, StorageError> {
        let MemberConfig { me, clock, horizons, known, seed, .. } = config;
        let node_config = NodeConfig {
            node: me.node,
            data: config.data,
            log: config.log,
            clock: clock.clone(),
            transport: config.transport,
            seed,
            options: config.options,
            horizons: horizons.clone(),
        };
        let node = match config.disk {
            None => Node::open(node_config)?,
            Some(disk) => Node::open_driven(node_config, disk)?,
        };
        node.set_peers(&known);
        let ids: Vec<NodeId> = known.iter().map(|n| n.node).collect();
        let gateway_config = GatewayConfig { bootstrap: ids, seed: seed.rotate_left(32) };
        let gateway = Gateway::new(node.clone(), Arc::new(GatewayClock(clock)), &gateway_config);
        node.set_recovery_handler(Arc::new(Recovering {
            gateway: gateway.clone(),
            runtime: Handle::current(),
        }));
        let cluster = Arc::new(ClusterAdmin::new(gateway.clone(), config.nodes, SCHEMA_LEASE.into()));
        let record = SystemKey::Node(me.node).encode();
        let licence = Licence { record, allows: nodes::may_plan };
        let catalog = CatalogCache::new(Arc::new(gateway.clone()), SCHEMA_LEASE).under(licence);
        let catalog = Arc::new(catalog);
        let (shards_per_table, sql) = (config.shards_per_table, config.sql);
        let drained = AtomicBool::new(false);
        Ok(Member { node, gateway, cluster, catalog, me, horizons, shards_per_table, sql, seed, drained })
    }

    /// Creates the replicas that a new cluster begins with, where they are not here yet.
    ///
    /// # Errors
    /// An engine fails.
    pub fn create_replicas(&self, request: &BootstrapRequest) -> Result<(), StorageError> {
        for shard in &request.shards {
            self.node.bootstrap_group(shard, request.campaign.contains(&shard.group))?;
        }
        Ok(())
    }

    /// Waits until the cluster works, and serves sessions. `first` are the nodes that the cluster began with, where this
    /// one knows them. What it starts ends with `shutdown`.
    ///
    /// # Errors
    /// The node was decommissioned.
    pub async fn serve(
        &self,
        first: Option<Vec<NodeId>>,
        shutdown: &CancellationToken,
    ) -> Result<SessionFactory, Decommissioned> {
        records::ensure(&self.gateway, first, &self.me).await?;
        let (gateway, cluster, catalog) = (self.gateway.clone(), self.cluster.clone(), self.catalog.clone());
        tokio::spawn(catalog.clone().run(shutdown.clone().cancelled_owned()));
        records::retry("load the catalog", || async { catalog.acquire().await.map(drop) }).await;
        let settings = Arc::new(ClusterSettings::default());
        let roles = Arc::new(Roles::default());
        let heed =
            records::heed_settings((settings.clone(), roles.clone()), gateway.clone(), self.horizons.clone());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(heed));
        let following = leaders::follow_clients(self.node.clone(), cluster.clone(), settings.clone());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(following));
        let succession = succession::run(gateway.clone(), cluster.clone(), self.me.clone());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(succession));
        let settings = ServerSettings {
            defaults: vec![("shards_per_table".into(), self.shards_per_table.to_string())],
            address: self.sql,
            cluster: settings,
            roles,
            seed: self.seed.rotate_left(16),
        };
        let sessions = SessionFactory::new(Arc::new(gateway), cluster, catalog, settings);
        tokio::spawn(sessions.clone().run_jobs(shutdown.clone().cancelled_owned()));
        tokio::spawn(sessions.clone().keep_advisory_locks(shutdown.clone().cancelled_owned()));
        Ok(sessions)
    }

    /// The nodes that were decommissioned.
    ///
    /// # Errors
    /// The system shard can't be read.
    pub async fn gone(&self) -> Result<BTreeSet<NodeId>, KvError> {
        nodes::gone(&self.gateway).await
    }

    /// Sees to it that schema changes need not wait for nodes that were decommissioned: waits until their schema leases are
    /// over, and writes that down.
    ///
    /// # Errors
    /// The system shard can't be read or written.
    pub async fn silence_the_gone(&self) -> Result<(), KvError> {
        nodes::silence(&self.gateway, SCHEMA_LEASE.into()).await
    }

    /// Moves a replica away from `node`, if it has any, and else marks it as one that is to be no more. How many are left:
    /// `None` at the end.
    ///
    /// # Errors
    /// As for [`ClusterAdmin::move_one_away`].
    pub async fn decommission(&self, node: NodeId) -> Result<Option<usize>, KvError> {
        let had_any = self.cluster.descriptors().await?;
        if had_any.iter().any(|shard| shard.replicas.iter().any(|(member, _)| *member == node)) {
            return self.cluster.move_one_away(node).await.map(Some);
        }
        nodes::mark(&self.gateway, node).await?;
        Ok(None)
    }

    /// Other nodes have come or gone.
    pub fn set_known(&self, known: &[NodeAddress]) {
        self.node.set_peers(known);
        self.gateway.set_nodes(known.iter().map(|n| n.node).collect());
    }

    /// True from when it was asked to give leadership away.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Whether it may be given leadership.
    pub fn may_lead(&self) -> bool {
        !self.is_drained() && !self.node.is_disk_failed() && self.node.clock().now().tt.is_some()
    }

    /// Hands every shard that this node leads to another replica of it, and says how many are left. Shards do not follow
    /// their clients to this node any more, until it starts again.
    pub async fn drain(&self) -> u64 {
        self.drained.store(true, Ordering::Release);
        let all = self.node.descriptors();
        for group in self.node.led_groups() {
            let Some(descriptor) = all.iter().find(|d| d.group == group) else { continue };
            let successors = descriptor.replicas.iter().map(|(node, _)| *node).filter(|n| *n != self.me.node);
            for successor in successors {
                if self.cluster.transfer_leader(group.get(), successor).await.is_ok() {
                    break;
                }
            }
        }
        self.node.led_groups().len() as u64
    }
}
