//! A node's answers to operators, to joining nodes and to gateways.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use meridian_rpc::admin::{
    AdminError, AdminHandler, BootstrapRequest, InitReply, JoinReply, JoinRequest, NodeAddress, NodeStatus,
    TransactionStatus,
};
use meridian_shard::LockStatus;
use meridian_types::{ClusterId, NodeId};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::bootstrap;
use crate::identity::{Folder, Identity};
use crate::peers::Peers;

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
    async fn admit(&self, node: NodeAddress) -> Result<NodeId, AdminError>;
    async fn drain(&self) -> Result<u64, AdminError>;
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
        })
    }

    /// The parts behind the answers are up.
    pub(crate) fn set_running(&self, running: Arc<dyn Running>) {
        assert!(self.running.set(running.clone()).is_ok(), "a node starts once");
        // Whoever holds the lock next sees the running part, so that no request stays behind.
        let late = self.late.lock().take();
        if let Some(Err(error)) = late.map(|request| running.create(&request)) {
            tracing::error!(%error, "cannot create the first replicas");
        }
    }

    /// This node's own record.
    pub(crate) fn me(&self) -> NodeAddress {
        self.me.lock().clone()
    }

    /// Takes on an identity that the folder remembers.
    pub(crate) fn resume(&self, identity: Identity, known: Vec<NodeAddress>) {
        self.become_member(identity, known);
        self.membership.send_replace(Some(Membership { identity, request: None }));
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
        for node in nodes {
            if node.node != me && node.node != NodeId::default() {
                self.peers.put(node, None);
            }
        }
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

    /// Becomes a member. Idempotent.
    pub(crate) fn take_bootstrap(&self, request: BootstrapRequest) -> Result<(), AdminError> {
        let identity = Identity { cluster: request.cluster, node: request.node };
        // Held to the end: `init` and a peer may both tell this node who it is at the same moment, and the one that comes
        // second must find what the first one did.
        let mut late = self.late.lock();
        if let Some(known) = self.membership.borrow().as_ref() {
            if known.identity != identity {
                return Err(AdminError::WrongCluster);
            }
            // It may have learned who it is from a peer before this request came with its replicas.
            return match self.running.get() {
                Some(running) => running.create(&request),
                None if known.request.is_none() => Err(AdminError::NotInitialised),
                None if request.shards.is_empty() => Ok(()),
                None => {
                    *late = Some(request);
                    Ok(())
                }
            };
        }
        self.folder.set_identity(identity).map_err(|e| AdminError::Failed { detail: e.to_string() })?;
        self.become_member(identity, request.nodes.clone());
        self.membership.send_replace(Some(Membership { identity, request: Some(request) }));
        Ok(())
    }
}

#[async_trait]
impl AdminHandler for Admin {
    async fn init(&self) -> Result<InitReply, AdminError> {
        let _one_at_a_time = self.initialising.lock().await;
        if self.cluster().is_some() {
            return Err(AdminError::AlreadyInitialised);
        }
        let nodes = self.gather().await?;
        let cluster = ClusterId::new(rand::random());
        let plan = bootstrap::plan(cluster, nodes);
        let me = self.me();
        for request in plan.values() {
            let address = &request.nodes[request.node.get() as usize - 1].address;
            if *address != me.address {
                self.peers.client(address, GATHER_TIMEOUT)?.bootstrap(request.clone()).await?;
            }
        }
        // Itself last: until then a failed attempt can be repeated.
        let mine = plan.into_values().find(|r| r.nodes[r.node.get() as usize - 1].address == me.address);
        let mine = mine.expect("this node is in its own list");
        let nodes = mine.nodes.clone();
        self.take_bootstrap(mine)?;
        Ok(InitReply { cluster, nodes })
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
        let known = self.peers.addresses().into_iter().find(|n| n.address == request.node.address);
        let node = match (request.node.node, known) {
            (id, _) if id != NodeId::default() => Some(id),
            (_, Some(known)) => Some(known.node),
            (_, None) => match self.running.get() {
                Some(running) => Some(running.admit(request.node.clone()).await?),
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

        async fn admit(&self, node: NodeAddress) -> Result<NodeId, AdminError> {
            Ok(node.node)
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

    /// A node whose peer tells it who it is before `init` does, at any moment of its start, has its replicas all the same.
    #[tokio::test]
    async fn the_first_replicas_are_created_whoever_comes_first() {
        for runs_before in [false, true] {
            let path =
                std::env::temp_dir().join(format!("meridian-admin-{}-{runs_before}", std::process::id()));
            let folder = Arc::new(Folder::open(&path).expect("a new folder"));
            let me = NodeAddress { address: "h3:1".into(), ..NodeAddress::default() };
            let admin = Admin::new(me, Vec::new(), folder, Peers::new(meridian_rpc::Security::none()));
            let nodes = (1..=3).map(|i| NodeAddress { address: format!("h{i}:1"), ..NodeAddress::default() });
            let plan = bootstrap::plan(ClusterId::new(7), nodes.collect());
            let request = plan[&NodeId::new(3)].clone();
            let identity = Identity { cluster: request.cluster, node: request.node };
            let created = Arc::new(Created::default());

            admin.admitted(identity, request.nodes.clone());
            if runs_before {
                admin.set_running(created.clone());
            }
            admin.take_bootstrap(request).expect("the same identity");
            if !runs_before {
                admin.set_running(created.clone());
            }
            assert_eq!(*created.0.lock(), [bootstrap::SYSTEM_GROUP, bootstrap::USER_GROUP]);
            std::fs::remove_dir_all(&path).expect("the folder is there");
        }
    }
}
