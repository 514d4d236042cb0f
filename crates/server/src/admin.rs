//! A node's answers to operators, to joining nodes and to gateways.
//!
//! **Who is who.** A node without an identity is told one by the folder that it has: the id that this folder was given
//! before, else a new one, whatever node has been at its address. So a node whose folder was lost never again votes
//! under the id whose promises it has forgotten (I-3); it joins as a new node and takes the old one's place by changes of
//! members (see `succession`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use meridian_rpc::admin::{
    AdminError, AdminHandler, BootstrapRequest, Departure, InitReply, JoinReply, JoinRequest, NodeAddress,
    NodeStatus, TransactionStatus,
};
use meridian_shard::LockStatus;
use meridian_types::{ClusterId, FolderId, NodeId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::identity::{Folder, Identity, Plan};
use crate::peers::{Peer, Peers};

/// `init` waits this long for the nodes of its list to make themselves known.
const GATHER_TIMEOUT: Duration = Duration::from_secs(20);

/// What a running node adds to the answers: everything that needs shards or sessions.
#[async_trait]
pub(crate) trait Running: Send + Sync {
    /// Fills in all but address and cluster.
    fn status(&self, status: &mut NodeStatus);
    fn locks(&self, limit: usize) -> Vec<LockStatus>;
    fn transactions(&self, limit: usize) -> Vec<TransactionStatus>;
    async fn publish_catalog(&self, version: u64) -> Result<(), AdminError>;
    /// The id of the node that has this folder: the one that it has been given, or a new one.
    async fn admit(&self, node: &NodeAddress) -> Result<NodeId, AdminError>;
    async fn drain(&self) -> Result<u64, AdminError>;
    async fn decommission(&self, node: NodeId) -> Result<Departure, AdminError>;
    /// Creates replicas that are not here yet.
    fn create(&self, request: &BootstrapRequest) -> Result<(), AdminError>;
    fn peers_changed(&self);
}

/// What a node knows once it is a member.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) identity: Identity,
    /// Replicas to create, and those that campaign at once; empty after a restart.
    pub(crate) request: Option<BootstrapRequest>,
}

/// The handler. Lives from the first moment, gets its running part later.
pub(crate) struct Admin {
    /// Itself, for the address book.
    this: Weak<Admin>,
    me: Mutex<NodeAddress>,
    join: Vec<String>,
    folder: Arc<Folder>,
    peers: Arc<Peers>,
    gathered: watch::Sender<BTreeMap<String, NodeAddress>>,
    membership: watch::Sender<Option<Membership>>,
    initialising: tokio::sync::Mutex<()>,
    running: OnceLock<Arc<dyn Running>>,
    /// The request with this node's first replicas, where it came after a peer had told the node who it is and before
    /// the node runs. Its replicas are created as soon as it does.
    late: Mutex<Option<BootstrapRequest>>,
    /// Nodes that were decommissioned.
    gone: Mutex<BTreeSet<NodeId>>,
    /// Cancelled once this node is one of them.
    pub(crate) departed: CancellationToken,
}

impl Admin {
    pub(crate) fn new(
        me: NodeAddress,
        join: Vec<String>,
        folder: Arc<Folder>,
        peers: Arc<Peers>,
    ) -> Arc<Admin> {
        Arc::new_cyclic(|this| Admin {
            this: this.clone(),
            me: Mutex::new(me),
            join,
            folder,
            peers,
            gathered: watch::Sender::new(BTreeMap::new()),
            membership: watch::Sender::new(None),
            initialising: tokio::sync::Mutex::new(()),
            running: OnceLock::new(),
            late: Mutex::new(None),
            gone: Mutex::default(),
            departed: CancellationToken::new(),
        })
    }

    /// The parts behind the answers are up.
    pub(crate) fn set_running(&self, running: Arc<dyn Running>) {
        assert!(self.running.set(running.clone()).is_ok(), "a node starts once");
        // Whoever holds the lock next sees the running part, so that no request stays behind.
        let late = self.late.lock().take();
        if let Some(Err(error)) = late.map(|request| self.create_first(&request, &*running)) {
            tracing::error!(%error, "cannot create the first replicas");
        }
    }

    fn create_first(&self, request: &BootstrapRequest, running: &dyn Running) -> Result<(), AdminError> {
        running.create(request)?;
        self.folder.advance_plan(|plan| plan.created = true).map_err(failed)
    }

    /// This node's own record.
    pub(crate) fn me(&self) -> NodeAddress {
        self.me.lock().clone()
    }

    /// Takes on an identity that the folder remembers. Where the process ended before it had created its first replicas,
    /// they are to be created now.
    pub(crate) fn resume(&self, identity: Identity, known: Vec<NodeAddress>) -> Result<(), ServerError> {
        let pending = self.folder.plan()?.filter(|plan| !plan.created && plan.cluster == identity.cluster);
        let request = pending
            .and_then(|plan| meridian_member::requests(plan.cluster, &plan.nodes).remove(&identity.node));
        self.become_member(identity, known);
        self.membership.send_replace(Some(Membership { identity, request }));
        Ok(())
    }

    /// Waits until the node is a member.
    pub(crate) async fn member(&self) -> Membership {
        let mut membership = self.membership.subscribe();
        let known = membership.wait_for(Option::is_some).await.expect("the sender lives in self");
        known.clone().expect("waited for")
    }

    /// A peer has told this node who it is: it joins a cluster that exists, without replicas at first.
    pub(crate) fn admitted(&self, identity: Identity, nodes: Vec<NodeAddress>) {
        let Identity { cluster, node } = identity;
        let request = BootstrapRequest { cluster, node, nodes, shards: Vec::new(), campaign: Vec::new() };
        if let Err(error) = self.take_bootstrap(request) {
            tracing::warn!(%error, "cannot take on the identity that a peer knows");
        }
    }

    /// This node's answers, for nodes of the same process.
    pub(crate) fn handler(&self) -> Weak<dyn AdminHandler> {
        self.this.clone()
    }

    /// Learns of nodes, from an answer of a peer.
    pub(crate) fn learn(&self, nodes: Vec<NodeAddress>) {
        let me = self.me.lock().node;
        {
            let gone = self.gone.lock();
            for node in nodes {
                if node.node != me && node.node != NodeId::default() && !gone.contains(&node.node) {
                    self.peers.put(node, None);
                }
            }
        }
        self.book_changed();
    }

    /// Nodes have been decommissioned: whoever still names them is not believed.
    pub(crate) fn forget(&self, nodes: BTreeSet<NodeId>) {
        let known = self.peers.addresses();
        let are_known = known.iter().any(|known| nodes.contains(&known.node));
        self.gone.lock().extend(&nodes);
        if are_known {
            nodes.iter().for_each(|node| self.peers.remove(*node));
            self.book_changed();
        }
    }

    fn book_changed(&self) {
        if let Err(error) = self.folder.set_peers(&self.peers.addresses()) {
            tracing::error!(%error, "cannot remember the address book");
        }
        if let Some(running) = self.running.get() {
            running.peers_changed();
        }
    }

    fn become_member(&self, identity: Identity, nodes: Vec<NodeAddress>) {
        let me = {
            let mut me = self.me.lock();
            me.node = identity.node;
            me.clone()
        };
        self.peers.set_me(identity.node);
        let handler: Weak<dyn AdminHandler> = self.this.clone();
        self.peers.put(me, Some(handler));
        self.learn(nodes);
    }

    /// Where the nodes are that this one has heard of.
    pub(crate) fn known_addresses(&self) -> Vec<String> {
        self.peers.addresses().into_iter().map(|n| n.address).collect()
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.membership.borrow().as_ref().map(|m| m.identity.cluster)
    }

    fn running(&self) -> Result<&Arc<dyn Running>, AdminError> {
        self.running.get().ok_or(AdminError::NotInitialised)
    }

    /// The nodes of the `--join` list in its order, this one among them, once all have made themselves known.
    async fn gather(&self) -> Result<Vec<NodeAddress>, AdminError> {
        let me = self.me();
        let mut wanted = self.join.clone();
        if !wanted.contains(&me.address) {
            wanted.insert(0, me.address.clone());
        }
        let others: Vec<String> = wanted.iter().filter(|a| **a != me.address).cloned().collect();
        let mut gathered = self.gathered.subscribe();
        let all_here = gathered.wait_for(|known| others.iter().all(|a| known.contains_key(a)));
        match tokio::time::timeout(GATHER_TIMEOUT, all_here).await {
            Ok(Ok(known)) => Ok(wanted
                .iter()
                .map(|address| known.get(address).cloned().unwrap_or_else(|| me.clone()))
                .collect()),
            Ok(Err(_)) | Err(_) => {
                let known = self.gathered.borrow().clone();
                let missing: Vec<_> = others.into_iter().filter(|a| !known.contains_key(a)).collect();
                Err(AdminError::Failed {
                    detail: format!("nodes have not made themselves known: {}", missing.join(", ")),
                })
            }
        }
    }

    /// Becomes a member. Idempotent, and durable before it is answered.
    pub(crate) fn take_bootstrap(&self, request: BootstrapRequest) -> Result<(), AdminError> {
        let identity = Identity { cluster: request.cluster, node: request.node };
        let is_first = !request.shards.is_empty();
        let meant = request.nodes.iter().find(|n| n.node == request.node);
        if meant.is_some_and(|meant| meant.folder != self.folder.id) {
            return Err(AdminError::OtherFolder);
        }
        // Held to the end: `init` and a peer may both tell this node who it is at the same moment, and the one that comes
        // second must find what the first one did.
        let mut late = self.late.lock();
        if let Some(known) = self.membership.borrow().as_ref() {
            if known.identity != identity {
                return Err(AdminError::WrongCluster);
            }
            let plan = self.folder.plan().map_err(failed)?;
            let is_under_way = known.request.as_ref().is_some_and(|r| !r.shards.is_empty()) || late.is_some();
            if !is_first || is_under_way || plan.as_ref().is_some_and(|plan| plan.created) {
                return Ok(());
            }
            // It has learned who it is from a peer before this request came with its replicas.
            if plan.is_none() {
                self.folder.set_plan(&plan_of(&request)).map_err(failed)?;
            }
            return match self.running.get() {
                Some(running) => self.create_first(&request, &**running),
                None => {
                    *late = Some(request);
                    Ok(())
                }
            };
        }
        let own = self.folder.plan().map_err(failed)?;
        // Where two nodes were asked for `init` at the same time, one of the two clusters must win everywhere.
        if own.as_ref().is_some_and(|own| own.cluster < request.cluster) {
            return Err(AdminError::WrongCluster);
        }
        let plan = match own.filter(|own| own.cluster == request.cluster) {
            Some(own) => Some(own),
            None => is_first.then(|| plan_of(&request)),
        };
        self.folder.set_identity(identity, plan).map_err(failed)?;
        self.become_member(identity, request.nodes.clone());
        self.membership.send_replace(Some(Membership { identity, request: Some(request) }));
        Ok(())
    }
}

impl Admin {
    /// Tells every node of a plan, itself last, so that it is no member while another one knows of nothing.
    async fn carry_out(&self, plan: &Plan) -> Result<(), AdminError> {
        let requests = meridian_member::requests(plan.cluster, &plan.nodes);
        let (mine, others): (Vec<_>, Vec<_>) = plan.nodes.iter().partition(|n| n.folder == self.folder.id);
        let tell = others.into_iter().map(|node| {
            let request = requests[&node.node].clone();
            async move {
                let told = match self.peers.client(&node.address, GATHER_TIMEOUT) {
                    Ok(client) => client.bootstrap(request).await,
                    Err(error) => Err(error),
                };
                (node, told)
            }
        });
        for (node, told) in futures::future::join_all(tell).await {
            match told {
                Err(AdminError::OtherFolder) => {
                    // What it had is lost; it will join as a new node.
                    tracing::warn!(node = node.node.get(), "node has lost its folder during init");
                }
                told => told?,
            }
        }
        mine.into_iter().try_for_each(|me| self.take_bootstrap(requests[&me.node].clone()))
    }
}

fn failed(error: ServerError) -> AdminError {
    AdminError::Failed { detail: error.to_string() }
}

/// The plan that a node learns of by being told.
fn plan_of(request: &BootstrapRequest) -> Plan {
    let (cluster, nodes) = (request.cluster, request.nodes.clone());
    Plan { cluster, nodes, is_own: false, complete: false, created: false }
}

#[async_trait]
impl AdminHandler for Admin {
    async fn init(&self) -> Result<InitReply, AdminError> {
        let _one_at_a_time = self.initialising.lock().await;
        let plan = match self.folder.plan().map_err(failed)? {
            Some(plan) => plan,
            None if self.cluster().is_some() => return Err(AdminError::AlreadyInitialised),
            None => {
                let nodes = meridian_member::number(self.gather().await?);
                let cluster = ClusterId::new(rand::random());
                let plan = Plan { cluster, nodes, is_own: true, complete: false, created: false };
                self.folder.set_plan(&plan).map_err(failed)?;
                plan
            }
        };
        if !plan.complete {
            self.carry_out(&plan).await?;
            self.folder.advance_plan(|plan| plan.complete = true).map_err(failed)?;
        }
        Ok(InitReply { cluster: plan.cluster, nodes: plan.nodes })
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinReply, AdminError> {
        let cluster = self.cluster();
        let Some(mine) = cluster else {
            if request.cluster.is_none() {
                let address = request.node.address.clone();
                self.gathered.send_modify(|known| drop(known.insert(address, request.node)));
            }
            return Ok(JoinReply { cluster: None, node: None, nodes: Vec::new() });
        };
        if request.cluster.is_some_and(|theirs| theirs != mine) {
            return Err(AdminError::WrongCluster);
        }
        let addresses = self.peers.addresses();
        let known = addresses.iter().find(|n| n.folder == request.node.folder);
        let node = match (request.node.node, known) {
            (_, _) if request.node.folder == FolderId::default() => {
                return Err(AdminError::Failed {
                    detail: "the node does not say which folder it has".into(),
                });
            }
            (id, _) if self.gone.lock().contains(&id) => return Err(AdminError::Decommissioned),
            (id, _) if id != NodeId::default() => {
                if addresses.iter().any(|n| n.address == request.node.address && n.node > id) {
                    return Err(AdminError::Superseded);
                }
                Some(id)
            }
            (_, Some(known)) => Some(known.node),
            (_, None) => match self.running.get() {
                Some(running) => Some(running.admit(&request.node).await?),
                None => None,
            },
        };
        if let Some(id) = node
            && id != self.me.lock().node
        {
            self.learn(vec![NodeAddress { node: id, ..request.node }]);
        }
        Ok(JoinReply { cluster, node, nodes: self.peers.addresses() })
    }

    async fn bootstrap(&self, request: BootstrapRequest) -> Result<(), AdminError> {
        self.take_bootstrap(request)
    }

    async fn set_peers(&self, nodes: Vec<NodeAddress>) -> Result<(), AdminError> {
        self.learn(nodes);
        Ok(())
    }

    async fn node_status(&self) -> Result<NodeStatus, AdminError> {
        let mut status = NodeStatus { node: self.me(), cluster: self.cluster(), ..NodeStatus::default() };
        if let Some(running) = self.running.get() {
            running.status(&mut status);
        }
        Ok(status)
    }

    async fn locks(&self, limit: usize) -> Result<Vec<LockStatus>, AdminError> {
        Ok(self.running()?.locks(limit))
    }

    async fn transactions(&self, limit: usize) -> Result<Vec<TransactionStatus>, AdminError> {
        Ok(self.running()?.transactions(limit))
    }

    async fn publish_catalog(&self, version: u64) -> Result<(), AdminError> {
        self.running()?.publish_catalog(version).await
    }

    async fn drain(&self) -> Result<u64, AdminError> {
        self.running()?.drain().await
    }

    async fn decommission(&self, node: Option<NodeId>) -> Result<Departure, AdminError> {
        let node = node.unwrap_or_else(|| self.me().node);
        let is_known = self.peers.addresses().iter().any(|known| known.node == node);
        if !is_known && !self.gone.lock().contains(&node) {
            return Err(AdminError::Failed { detail: format!("there is no node {node}") });
        }
        let departure = self.running()?.decommission(node).await?;
        if departure.is_out && node == self.me().node {
            self.departed.cancel();
        } else if departure.is_out {
            // While others still talk to it, it can be told; once they do not, it would hear nothing more.
            if let Some(Peer::Remote(client)) = self.peers.peer(node)
                && let Err(error) = client.decommission(Some(node)).await
            {
                tracing::debug!(%node, %error, "the node that has left was not told");
            }
            self.forget(BTreeSet::from([node]));
        }
        Ok(departure)
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::GroupId;

    use super::*;

    /// Counts the shards that it was told to create.
    #[derive(Default)]
    struct Created(Mutex<Vec<GroupId>>);

    #[async_trait]
    impl Running for Created {
        fn status(&self, _: &mut NodeStatus) {}

        fn locks(&self, _: usize) -> Vec<LockStatus> {
            Vec::new()
        }

        fn transactions(&self, _: usize) -> Vec<TransactionStatus> {
            Vec::new()
        }

        async fn publish_catalog(&self, _: u64) -> Result<(), AdminError> {
            Ok(())
        }

        async fn admit(&self, _: &NodeAddress) -> Result<NodeId, AdminError> {
            Ok(NodeId::new(9))
        }

        async fn decommission(&self, node: NodeId) -> Result<Departure, AdminError> {
            Ok(Departure { node, replicas_left: 0, is_out: true })
        }

        async fn drain(&self) -> Result<u64, AdminError> {
            Ok(0)
        }

        fn create(&self, request: &BootstrapRequest) -> Result<(), AdminError> {
            self.0.lock().extend(request.shards.iter().map(|s| s.group));
            Ok(())
        }

        fn peers_changed(&self) {}
    }

    fn address(i: u32) -> NodeAddress {
        NodeAddress {
            address: format!("h{i}:1"),
            folder: FolderId::new(u128::from(i)),
            ..NodeAddress::default()
        }
    }

    /// A folder of its own that is removed at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("meridian-admin-{}-{name}", std::process::id()));
            let _gone = std::fs::remove_dir_all(&path);
            Scratch(path)
        }

        /// A node that starts on the folder.
        fn start(&self, me: NodeAddress, join: Vec<String>) -> (Arc<Folder>, Arc<Admin>) {
            let folder = Arc::new(Folder::open(&self.0).expect("a folder"));
            let me = NodeAddress { folder: folder.id, ..me };
            let admin = Admin::new(me, join, folder.clone(), Peers::new(meridian_rpc::Security::none()));
            if let Some(identity) = folder.identity().unwrap() {
                admin.resume(identity, folder.peers().unwrap()).unwrap();
            }
            (folder, admin)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }

    fn request_for(folder: &Folder) -> BootstrapRequest {
        let mut nodes: Vec<NodeAddress> = (1..=3).map(address).collect();
        nodes[2].folder = folder.id;
        meridian_member::requests(ClusterId::new(7), &meridian_member::number(nodes))[&NodeId::new(3)].clone()
    }

    /// A node whose peer tells it who it is before `init` does, at any moment of its start, has its replicas all the same.
    #[tokio::test]
    async fn the_first_replicas_are_created_whoever_comes_first() {
        for runs_before in [false, true] {
            let scratch = Scratch::new(&format!("first-{runs_before}"));
            let (folder, admin) = scratch.start(address(3), Vec::new());
            let request = request_for(&folder);
            let identity = Identity { cluster: request.cluster, node: request.node };
            let created = Arc::new(Created::default());

            admin.admitted(identity, request.nodes.clone());
            if runs_before {
                admin.set_running(created.clone());
            }
            admin.take_bootstrap(request.clone()).expect("the same identity");
            if !runs_before {
                admin.set_running(created.clone());
            }
            assert_eq!(*created.0.lock(), [meridian_member::SYSTEM_GROUP, meridian_member::USER_GROUP]);
            admin.take_bootstrap(request).expect("told twice");
            assert_eq!(created.0.lock().len(), 2, "first replicas are created once");
        }
    }

    /// A node that answered, and crashed before it had its replicas, creates them at its next start, and only then.
    #[tokio::test]
    async fn a_crash_between_the_answer_and_the_first_replicas_does_not_lose_them() {
        let scratch = Scratch::new("crash");
        let (folder, admin) = scratch.start(address(3), Vec::new());
        let request = request_for(&folder);
        admin.take_bootstrap(request.clone()).unwrap();
        drop((folder, admin));

        let (folder, admin) = scratch.start(address(3), Vec::new());
        assert_eq!(admin.member().await.request, Some(request));
        folder.advance_plan(|plan| plan.created = true).unwrap();
        drop((folder, admin));

        let (_folder, admin) = scratch.start(address(3), Vec::new());
        let member = admin.member().await;
        assert_eq!((member.identity.node, member.request), (NodeId::new(3), None));
    }

    /// An `init` that failed in the middle goes on with the same cluster, after a restart too, and says the same once it
    /// is done.
    #[tokio::test]
    async fn init_is_repeated_with_the_same_cluster() {
        let scratch = Scratch::new("init");
        // Nobody listens on the discard port.
        let peer = NodeAddress { address: "127.0.0.1:9".into(), ..address(2) };
        let join = vec![peer.address.clone()];
        let (folder, admin) = scratch.start(address(1), join.clone());
        admin.join(JoinRequest { node: peer.clone(), cluster: None }).await.unwrap();
        assert!(matches!(admin.init().await, Err(AdminError::Unreachable { .. })));
        let plan = folder.plan().unwrap().unwrap();
        assert!(plan.is_own && !plan.complete);
        assert_eq!(folder.identity().unwrap(), None);
        drop((folder, admin));

        let (folder, admin) = scratch.start(address(1), join);
        assert!(admin.init().await.is_err());
        assert_eq!(folder.plan().unwrap(), Some(plan.clone()));
        // As if the other one had been told in the end.
        let alone =
            Plan { nodes: plan.nodes.iter().filter(|n| n.folder == folder.id).cloned().collect(), ..plan };
        folder.set_plan(&alone).unwrap();
        for _ in 0..2 {
            assert_eq!(admin.init().await.unwrap().cluster, alone.cluster);
        }
        assert!(folder.plan().unwrap().unwrap().complete);
        assert_eq!(folder.identity().unwrap().unwrap().cluster, alone.cluster);
    }

    /// I-3: an id belongs to a folder, not to an address.
    #[tokio::test]
    async fn a_node_that_lost_its_folder_is_not_given_its_old_id() {
        let scratch = Scratch::new("lost");
        let (folder, admin) = scratch.start(address(3), Vec::new());
        admin.take_bootstrap(request_for(&folder)).unwrap();
        admin.set_running(Arc::new(Created::default()));
        let cluster = Some(ClusterId::new(7));
        let join = async |node: NodeAddress, cluster| admin.join(JoinRequest { node, cluster }).await;

        let same = join(address(2), None).await.unwrap();
        assert_eq!(same.node, Some(NodeId::new(2)), "it was told before and does not know it");
        let lost = NodeAddress { folder: FolderId::new(77), ..address(2) };
        let given = join(lost.clone(), None).await.unwrap();
        assert_eq!(given.node, Some(NodeId::new(9)));
        assert!(given.nodes.iter().all(|n| n.node != NodeId::new(2)), "its address has a new owner");
        assert_eq!(join(lost, None).await.unwrap().node, Some(NodeId::new(9)), "asked again");
        let back = NodeAddress { node: NodeId::new(2), ..address(2) };
        assert_eq!(join(back.clone(), cluster).await, Err(AdminError::Superseded));
        let elsewhere = NodeAddress { address: "h5:1".into(), ..back };
        assert_eq!(join(elsewhere, cluster).await.unwrap().node, Some(NodeId::new(2)));
        // What is meant for the folder that was lost does not reach the new one.
        let other = BootstrapRequest {
            nodes: vec![NodeAddress { node: NodeId::new(3), ..address(3) }],
            ..request_for(&folder)
        };
        assert_eq!(admin.take_bootstrap(other), Err(AdminError::OtherFolder));
    }
}
