//! Client of the administrative service.

use std::time::Duration;

use meridian_shard::LockStatus;
use meridian_types::NodeId;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::admin::{
    AdminError, BootstrapRequest, Departure, InitReply, JoinReply, JoinRequest, NodeAddress, NodeStatus,
    TransactionStatus,
};
use crate::grpc::endpoint;
use crate::security::Security;
use crate::wire::proto::admin_client::AdminClient as WireClient;
use crate::wire::{WireError, proto};

/// Asks one node. Connects at the first request and again when the connection broke; cheap to clone.
#[derive(Clone)]
pub struct AdminClient {
    address: String,
    client: WireClient<Channel>,
    timeout: Duration,
}

fn malformed(error: WireError) -> AdminError {
    AdminError::Failed { detail: error.to_string() }
}

impl AdminClient {
    /// A client of the node at `host:port`, whose requests take at most `timeout`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(address: &str, security: &Security, timeout: Duration) -> Result<Self, AdminError> {
        let endpoint = endpoint(address, security).map_err(|error| AdminError::Unreachable {
            address: address.to_owned(),
            detail: format!("{error:?}"),
        })?;
        let client = WireClient::new(endpoint.connect_lazy());
        Ok(AdminClient { address: address.to_owned(), client, timeout })
    }

    /// Where the node is.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, AdminError> {
        let unreachable = |detail: &str| AdminError::Unreachable {
            address: self.address.clone(),
            detail: detail.to_owned(),
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Err(_) => Err(unreachable("timed out")),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(match status.code() {
                Code::AlreadyExists => AdminError::AlreadyInitialised,
                Code::FailedPrecondition => AdminError::WrongCluster,
                Code::Aborted => AdminError::Superseded,
                Code::OutOfRange => AdminError::Decommissioned,
                Code::NotFound => AdminError::OtherFolder,
                Code::Unavailable if status.message() == AdminError::NotInitialised.to_string() => {
                    AdminError::NotInitialised
                }
                Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => {
                    unreachable(status.message())
                }
                _ => AdminError::Failed { detail: status.message().to_owned() },
            }),
        }
    }

    /// Makes a cluster of the nodes that gathered there.
    pub async fn init(&self) -> Result<InitReply, AdminError> {
        let reply = self.ask(self.client.clone().init(proto::InitRequest {})).await?;
        reply.try_into().map_err(malformed)
    }

    /// Makes this node known there.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinReply, AdminError> {
        let request = proto::JoinRequest::from(request);
        Ok(self.ask(self.client.clone().join(request)).await?.into())
    }

    /// Tells the node who it is.
    pub async fn bootstrap(&self, request: BootstrapRequest) -> Result<(), AdminError> {
        let request = proto::BootstrapRequest::from(request);
        self.ask(self.client.clone().bootstrap(request)).await.map(drop)
    }

    /// Tells the node the address book.
    pub async fn set_peers(&self, nodes: Vec<NodeAddress>) -> Result<(), AdminError> {
        let request = proto::SetPeersRequest { nodes: nodes.into_iter().map(Into::into).collect() };
        self.ask(self.client.clone().set_peers(request)).await.map(drop)
    }

    /// The state of the node.
    pub async fn node_status(&self) -> Result<NodeStatus, AdminError> {
        let reply = self.ask(self.client.clone().node_status(proto::NodeStatusRequest {})).await?;
        reply.try_into().map_err(malformed)
    }

    /// Locks at the leaders on the node.
    pub async fn locks(&self, limit: usize) -> Result<Vec<LockStatus>, AdminError> {
        let request = proto::LocksRequest { limit: limit as u64 };
        let reply = self.ask(self.client.clone().locks(request)).await?;
        reply.locks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(malformed)
    }

    /// Open read-write transactions of the gateway there.
    pub async fn transactions(&self, limit: usize) -> Result<Vec<TransactionStatus>, AdminError> {
        let request = proto::TransactionsRequest { limit: limit as u64 };
        let reply = self.ask(self.client.clone().transactions(request)).await?;
        reply.transactions.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(malformed)
    }

    /// Returns when the node plans on no catalog older than `version`.
    pub async fn publish_catalog(&self, version: u64) -> Result<(), AdminError> {
        let request = proto::PublishCatalogRequest { version };
        self.ask(self.client.clone().publish_catalog(request)).await.map(drop)
    }

    /// Asks the node to give its leaderships away; answers how many are left.
    pub async fn drain(&self) -> Result<u64, AdminError> {
        Ok(self.ask(self.client.clone().drain(proto::DrainRequest {})).await?.leaders_left)
    }

    /// Asks the node to empty another one, or itself, for a while.
    pub async fn decommission(&self, node: Option<NodeId>) -> Result<Departure, AdminError> {
        let request = proto::DecommissionRequest { node: node.map_or(0, NodeId::get) };
        let reply = self.ask(self.client.clone().decommission(request)).await?;
        let node = NodeId::new(reply.node);
        Ok(Departure { node, replicas_left: reply.replicas_left, is_out: reply.is_out })
    }
}
