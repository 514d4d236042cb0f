//! The nodes of the cluster, as this one can ask them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use meridian_rpc::admin::{AdminError, AdminHandler, NodeAddress, NodeStatus};
use meridian_rpc::{AdminClient, Security};
use meridian_types::NodeId;
use parking_lot::RwLock;

use crate::http::Seen;

/// A status page waits this long for a node that does not answer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Longer than a schema lease: publishing waits for transactions on older versions to end.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(8);

/// How another node is asked.
#[derive(Clone)]
pub(crate) enum Peer {
    /// It lives in this process (the demo, or this node itself).
    Local(Weak<dyn AdminHandler>),
    /// Over gRPC.
    Remote(AdminClient),
}

/// The address book with a way to ask each node.
pub(crate) struct Peers {
    me: OnceLock<NodeId>,
    security: Security,
    nodes: RwLock<BTreeMap<NodeId, (NodeAddress, Peer)>>,
}

impl Peers {
    /// An empty book, of nodes that are asked so.
    pub(crate) fn new(security: Security) -> Arc<Peers> {
        Arc::new(Peers { me: OnceLock::new(), security, nodes: RwLock::default() })
    }

    /// A client of the node at `address`, member or not.
    pub(crate) fn client(&self, address: &str, timeout: Duration) -> Result<AdminClient, AdminError> {
        AdminClient::new(address, &self.security, timeout)
    }

    /// Tells which of the nodes is this one.
    pub(crate) fn set_me(&self, me: NodeId) {
        // Set twice only with the same id: a folder's identity never changes.
        let _known = self.me.set(me);
    }

    /// Adds a node or corrects its address. An address that can't be dialled is left out.
    ///
    /// An address belongs to the node that joined there last: the one with the greatest id, as ids ascend. Those that
    /// were there before have lost their folders and are gone.
    pub(crate) fn put(&self, address: NodeAddress, local: Option<Weak<dyn AdminHandler>>) {
        let node = address.node;
        if let Some((known, Peer::Local(_))) = self.nodes.read().get(&node)
            && (local.is_none() || *known == address)
        {
            return;
        }
        let peer = match local {
            Some(handler) => Peer::Local(handler),
            None => match self.client(&address.address, PUBLISH_TIMEOUT) {
                Ok(client) => Peer::Remote(client),
                Err(error) => {
                    tracing::warn!(%node, %error, "node has an address that can't be used");
                    return;
                }
            },
        };
        let mut nodes = self.nodes.write();
        let is_taken = nodes.values().any(|(known, at)| {
            let is_me = matches!(at, Peer::Local(_)) && matches!(peer, Peer::Remote(_));
            known.address == address.address && known.node != node && (known.node > node || is_me)
        });
        if !is_taken {
            nodes.retain(|_, (known, _)| known.address != address.address);
            nodes.insert(node, (address, peer));
        }
    }

    /// Takes a node out of the book.
    pub(crate) fn remove(&self, node: NodeId) {
        self.nodes.write().remove(&node);
    }

    /// The address book.
    pub(crate) fn addresses(&self) -> Vec<NodeAddress> {
        self.nodes.read().values().map(|(address, _)| address.clone()).collect()
    }

    /// How to ask `node`.
    pub(crate) fn peer(&self, node: NodeId) -> Option<Peer> {
        self.nodes.read().get(&node).map(|(_, peer)| peer.clone())
    }

    /// This node's own status.
    pub(crate) async fn local_status(&self) -> Result<NodeStatus, AdminError> {
        let me = self.me.get().ok_or(AdminError::NotInitialised)?;
        let peer = self.peer(*me).ok_or(AdminError::NotInitialised)?;
        peer.node_status().await
    }

    /// What every node says of itself, asked at the same time.
    pub(crate) async fn all_statuses(&self) -> Vec<Seen> {
        let nodes: Vec<(NodeAddress, Peer)> = self.nodes.read().values().cloned().collect();
        let ask = nodes.into_iter().map(|(address, peer)| async move {
            let status = tokio::time::timeout(STATUS_TIMEOUT, peer.node_status()).await;
            // Another node may answer at the address.
            let is_it = |status: &NodeStatus| status.node.node == address.node;
            Seen { status: status.ok().and_then(Result::ok).filter(is_it), address }
        });
        futures::future::join_all(ask).await
    }
}

fn gone() -> AdminError {
    AdminError::Failed { detail: "node has stopped".into() }
}

impl Peer {
    pub(crate) async fn node_status(&self) -> Result<NodeStatus, AdminError> {
        match self {
            Peer::Local(handler) => handler.upgrade().ok_or_else(gone)?.node_status().await,
            Peer::Remote(client) => client.node_status().await,
        }
    }

    pub(crate) async fn locks(&self, limit: usize) -> Result<Vec<meridian_shard::LockStatus>, AdminError> {
        match self {
            Peer::Local(handler) => handler.upgrade().ok_or_else(gone)?.locks(limit).await,
            Peer::Remote(client) => client.locks(limit).await,
        }
    }

    pub(crate) async fn transactions(
        &self,
        limit: usize,
    ) -> Result<Vec<meridian_rpc::admin::TransactionStatus>, AdminError> {
        match self {
            Peer::Local(handler) => handler.upgrade().ok_or_else(gone)?.transactions(limit).await,
            Peer::Remote(client) => client.transactions(limit).await,
        }
    }

    pub(crate) async fn publish_catalog(&self, version: u64) -> Result<(), AdminError> {
        match self {
            Peer::Local(handler) => handler.upgrade().ok_or_else(gone)?.publish_catalog(version).await,
            Peer::Remote(client) => client.publish_catalog(version).await,
        }
    }
}
