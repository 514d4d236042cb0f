//! The gRPC server of a node, and of a time master.

use std::future::Future;
use std::sync::Arc;

use meridian_types::NodeId;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use crate::admin::{AdminError, AdminHandler, Departure};
use crate::grpc::{KEEP_ALIVE, MESSAGE_BYTES_MAX, PeerEndpoint, PeerService, WINDOW_BYTES};
use crate::security::{NODE, OPERATOR, Security};
use crate::time::TimeService;
use crate::wire::proto;
use crate::wire::proto::admin_server::{Admin, AdminServer};
use crate::wire::proto::peer_server::PeerServer;
use crate::wire::proto::time_master_server::{TimeMaster, TimeMasterServer};

/// How long connections may take to end after a request to stop.
const SHUTDOWN_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// The server could not listen or broke.
#[derive(Debug, thiserror::Error)]
#[error("gRPC server failed: {0:?}")]
pub struct ServeError(#[from] tonic::transport::Error);

fn builder(security: &Security) -> Result<Server, ServeError> {
    let server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE));
    match security.server() {
        Some(tls) => Ok(server.tls_config(tls)?),
        None => Ok(server),
    }
}

/// What a node serves to other nodes and to operators.
pub struct NodeServices {
    /// Streams of other nodes.
    pub peers: Arc<PeerEndpoint>,
    /// Administration.
    pub admin: Arc<dyn AdminHandler>,
    /// Time, where the node is a master too.
    pub time: Option<Arc<dyn TimeService>>,
}

/// Serves the streams of other nodes, administration, and time where it is given, until `shutdown` is ready. Open
/// connections are given a moment to end.
///
/// # Errors
/// The certificates are of no use, or the listener broke.
pub async fn serve_node(
    listener: TcpListener,
    services: NodeServices,
    security: &Security,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let NodeServices { peers, admin, time } = services;
    let peer_server = PeerServer::new(PeerService(peers))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin_server = AdminServer::new(AdminService(admin));
    let router = builder(security)?
        .add_service(InterceptedService::new(peer_server, security.only(&[NODE])))
        .add_service(InterceptedService::new(admin_server, security.only(&[NODE, OPERATOR])))
        .add_optional_service(time.map(|t| TimeMasterServer::new(TimeMasterService(t))));
    run(router, listener, shutdown).await
}

/// Serves time alone, until `shutdown` is ready.
///
/// # Errors
/// The certificates are of no use, or the listener broke.
pub async fn serve_time_master(
    listener: TcpListener,
    time: Arc<dyn TimeService>,
    security: &Security,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let router = builder(security)?.add_service(TimeMasterServer::new(TimeMasterService(time)));
    run(router, listener, shutdown).await
}

async fn run(
    router: tonic::transport::server::Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let serving = router.serve_with_incoming_shutdown(incoming, async move {
        shutdown.await;
        // The receiver is gone only when serving ended first.
        stopping.send(()).ok();
    });
    let grace = async {
        if stopped.await.is_ok() {
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = grace => Ok(()),
    }
}

struct TimeMasterService(Arc<dyn TimeService>);

#[tonic::async_trait]
impl TimeMaster for TimeMasterService {
    async fn now(&self, _: Request<proto::NowRequest>) -> Result<Response<proto::NowReply>, Status> {
        let reading = self.0.now().await.ok_or_else(|| Status::unavailable("time master has stopped"))?;
        Ok(Response::new(proto::NowReply {
            time_ns: reading.time.as_nanos(),
            uncertainty_ns: reading.uncertainty.as_nanos(),
        }))
    }
}

struct AdminService(Arc<dyn AdminHandler>);

fn status_of(error: AdminError) -> Status {
    let code = match &error {
        AdminError::NotInitialised => Code::Unavailable,
        AdminError::AlreadyInitialised => Code::AlreadyExists,
        AdminError::WrongCluster => Code::FailedPrecondition,
        AdminError::Superseded => Code::Aborted,
        AdminError::Decommissioned => Code::OutOfRange,
        AdminError::OtherFolder => Code::NotFound,
        AdminError::Unreachable { .. } | AdminError::Failed { .. } => Code::Internal,
    };
    Status::new(code, error.to_string())
}

fn malformed(error: crate::wire::WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn limit(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init(&self, _: Request<proto::InitRequest>) -> Answer<proto::InitReply> {
        Ok(Response::new(self.0.init().await.map_err(status_of)?.into()))
    }

    async fn join(&self, request: Request<proto::JoinRequest>) -> Answer<proto::JoinReply> {
        let request = request.into_inner().try_into().map_err(malformed)?;
        Ok(Response::new(self.0.join(request).await.map_err(status_of)?.into()))
    }

    async fn bootstrap(&self, request: Request<proto::BootstrapRequest>) -> Answer<proto::BootstrapReply> {
        let request = request.into_inner().try_into().map_err(malformed)?;
        self.0.bootstrap(request).await.map_err(status_of)?;
        Ok(Response::new(proto::BootstrapReply {}))
    }

    async fn set_peers(&self, request: Request<proto::SetPeersRequest>) -> Answer<proto::SetPeersReply> {
        let nodes = request.into_inner().nodes.into_iter().map(Into::into).collect();
        self.0.set_peers(nodes).await.map_err(status_of)?;
        Ok(Response::new(proto::SetPeersReply {}))
    }

    async fn node_status(&self, _: Request<proto::NodeStatusRequest>) -> Answer<proto::NodeStatusReply> {
        Ok(Response::new(self.0.node_status().await.map_err(status_of)?.into()))
    }

    async fn locks(&self, request: Request<proto::LocksRequest>) -> Answer<proto::LocksReply> {
        let locks = self.0.locks(limit(request.into_inner().limit)).await.map_err(status_of)?;
        Ok(Response::new(proto::LocksReply { locks: locks.into_iter().map(Into::into).collect() }))
    }

    async fn transactions(
        &self,
        request: Request<proto::TransactionsRequest>,
    ) -> Answer<proto::TransactionsReply> {
        let open = self.0.transactions(limit(request.into_inner().limit)).await.map_err(status_of)?;
        let transactions = open.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::TransactionsReply { transactions }))
    }

    async fn publish_catalog(
        &self,
        request: Request<proto::PublishCatalogRequest>,
    ) -> Answer<proto::PublishCatalogReply> {
        self.0.publish_catalog(request.into_inner().version).await.map_err(status_of)?;
        Ok(Response::new(proto::PublishCatalogReply {}))
    }

    async fn drain(&self, _: Request<proto::DrainRequest>) -> Answer<proto::DrainReply> {
        let leaders_left = self.0.drain().await.map_err(status_of)?;
        Ok(Response::new(proto::DrainReply { leaders_left }))
    }

    async fn decommission(
        &self,
        request: Request<proto::DecommissionRequest>,
    ) -> Answer<proto::DecommissionReply> {
        let node = Some(request.into_inner().node).filter(|node| *node != 0).map(NodeId::new);
        let Departure { node, replicas_left, is_out } = self.0.decommission(node).await.map_err(status_of)?;
        Ok(Response::new(proto::DecommissionReply { node: node.get(), replicas_left, is_out }))
    }
}
