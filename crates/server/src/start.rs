//! `meridian start`: one node as a process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use meridian_member::Decommissioned;
use meridian_node::{KernelClock, NodeClock, Oscillator, TimeMaster};
use meridian_pgwire_server::{PgSecurity, PgServer, PgServerOptions};
use meridian_rpc::admin::{AdminError, AdminHandler, JoinRequest, NodeAddress};
use meridian_rpc::peer::Transport;
use meridian_rpc::{
    GrpcConfig, GrpcTransport, LatencyTable, NodeServices, PeerEndpoint, Security, TimeClient, serve_node,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::assembly::{self, Parts};
use crate::http::{self, Pages};
use crate::identity::{Folder, Identity};
use crate::peers::Peers;
use crate::{ClockSource, ServerError, StartOptions, certificates, shutdown};

/// How often time masters are polled. Between polls epsilon grows by 200 us a second, and every commit waits out two of
/// them: polled each second, a commit of one client waited longer for the clock than for the disks. A poll costs each
/// side 0.1 ms of CPU.
const CLOCK_POLL: Duration = Duration::from_millis(200);

/// What the clock's patience is counted in: a few of these without an answer are normal on a busy machine, and a drift
/// shows only over a minute of them.
const CLOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How often a node that is no member yet makes itself known.
const JOIN_INTERVAL: Duration = Duration::from_millis(200);

/// A peer that does not answer by then is asked again later.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Sessions of one node. Each takes a task and its buffers, tens of kilobytes.
pub(crate) const MAX_CONNECTIONS: usize = 10_000;

/// Runs a node until a signal. What other nodes and time masters send is served on `replication`, so that a statement
/// which computes for long holds up no lease and no vote.
///
/// # Errors
/// What keeps it from starting; see [`ServerError`].
pub async fn start(options: StartOptions, replication: &Handle) -> Result<(), ServerError> {
    let security = certificates::of_node(options.certs.as_deref())?;
    let shutdown = shutdown::on_signal();
    // Whoever has nobody to rebuild from keeps what is left.
    let has_peers = options.join.iter().any(|address| *address != options.advertise);
    let folder =
        if has_peers { Folder::open_or_begin_anew(&options.data)? } else { Folder::open(&options.data)? };
    let folder = Arc::new(folder);
    let pg = bind_pg(options.pg, security.clients)?;
    let security = security.peers;
    let http = http::bind(options.http).await?;
    let address = options.listen;
    let rpc = replication.spawn(TcpListener::bind(address)).await.expect("binding a port does not panic");
    let rpc = rpc.map_err(|error| ServerError::Listen { what: "other nodes", address, error })?;
    let me = NodeAddress {
        node: Default::default(),
        address: options.advertise.clone(),
        sql_address: options.pg.to_string(),
        http_address: options.http.to_string(),
        region: options.region.clone(),
        zone: options.zone.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        folder: folder.id,
    };
    let peers = Peers::new(security.clone());
    let admin = Admin::new(me, options.join.clone(), folder.clone(), peers.clone());
    let endpoint = Arc::new(PeerEndpoint::default());
    let ready = Arc::new(AtomicBool::new(false));
    // Both end with the shutdown.
    let services = NodeServices { peers: endpoint.clone(), admin: admin.clone(), time: None };
    let (serving, stop) = (security.clone(), shutdown.clone().cancelled_owned());
    let rpc_server = replication.spawn(async move { serve_node(rpc, services, &serving, stop).await });
    let pages = Arc::new(Pages { peers: peers.clone(), ready: ready.clone() });
    let http_server = tokio::spawn(http::serve(http, pages, shutdown.clone()));
    let (clock, _discipline) = {
        let _entered = replication.enter();
        discipline(sources(&options.clock, &security), Oscillator::os())
    };

    if let Some(identity) = folder.identity()? {
        admin.resume(identity, folder.peers()?)?;
    }
    if folder.plan()?.is_some_and(|plan| plan.is_own && !plan.complete) {
        // Ends with the shutdown, or when every node has been told.
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(finish_init(admin.clone())));
    }
    let membership = tokio::select! {
        membership = admin.member() => membership,
        refused = join(&admin, &peers, &options.join, &folder, shutdown.clone()) => return refused,
    };
    let config = GrpcConfig {
        cluster: membership.identity.cluster,
        node: membership.identity.node,
        region: options.region,
        incarnation: folder.incarnation,
        latency: LatencyTable::none(),
        security,
    };
    let transport = GrpcTransport::new(config, replication.clone());
    endpoint.set(transport.clone());
    let transport: Arc<dyn Transport> = transport;
    let parts = Parts {
        folder: folder.clone(),
        admin: admin.clone(),
        peers: peers.clone(),
        clock,
        transport,
        pg,
        ready,
        shards_per_table: options.shards_per_table,
        shutdown: shutdown.clone(),
    };
    // Goes on asking: addresses of peers may have changed since they were written down.
    let joining = join(&admin, &peers, &options.join, &folder, shutdown.clone());
    tokio::pin!(joining);
    let starting = assembly::start(parts, membership);
    tokio::pin!(starting);
    let mut asked = false;
    let member = loop {
        tokio::select! {
            member = &mut starting => break member?,
            refused = &mut joining, if !asked => {
                refused?;
                asked = true;
            }
            () = shutdown.cancelled() => return Ok(()),
        }
    };
    if asked {
        shutdown.cancelled().await;
    } else {
        tokio::select! {
            () = shutdown.cancelled() => {}
            refused = &mut joining => {
                refused?;
                shutdown.cancelled().await;
            }
        }
    }
    member.stop().await;
    let _ended = tokio::join!(rpc_server, http_server);
    Ok(())
}

/// Goes on with an `init` that this node began and did not end.
async fn finish_init(admin: Arc<Admin>) {
    while let Err(error) = admin.init().await {
        tracing::warn!(%error, "an interrupted init is not finished yet");
        tokio::time::sleep(JOIN_TIMEOUT).await;
    }
}

/// Binds the SQL port.
pub(crate) fn bind_pg(
    listen: SocketAddr,
    security: Option<Arc<PgSecurity>>,
) -> Result<PgServer, ServerError> {
    PgServer::bind(&PgServerOptions { listen, max_connections: MAX_CONNECTIONS, security })
        .map_err(|error| ServerError::Listen { what: "SQL", address: listen, error })
}

/// What a node's clock is disciplined by.
pub(crate) fn sources(clock: &ClockSource, security: &Security) -> Vec<Box<dyn TimeMaster>> {
    let master = |address: &String| {
        let client = match address.strip_prefix("https://") {
            Some(address) => TimeClient::new(address, security.clone()),
            None => TimeClient::new(address, Security::none()),
        };
        Box::new(client) as Box<dyn TimeMaster>
    };
    match clock {
        ClockSource::Masters(masters) => masters.iter().map(master).collect(),
        ClockSource::System => vec![Box::new(KernelClock)],
    }
}

/// A clock that these masters discipline until the guard is dropped.
pub(crate) fn discipline(
    masters: Vec<Box<dyn TimeMaster>>,
    oscillator: Oscillator,
) -> (Arc<NodeClock>, tokio_util::sync::DropGuard) {
    let clock = NodeClock::new(oscillator, &masters, CLOCK_PATIENCE.into());
    let guard = clock.discipline(masters, CLOCK_POLL);
    (clock, guard)
}

/// Makes this node known to its peers, until it is a member and each has answered once. Returns early only with an error.
async fn join(
    admin: &Arc<Admin>,
    peers: &Peers,
    addresses: &[String],
    folder: &Folder,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let mut heard: BTreeSet<String> = BTreeSet::new();
    while !shutdown.is_cancelled() {
        let identity = folder.identity()?;
        let me = admin.me();
        // Those that it was told of, and those that it has heard of since.
        let mut waiting: BTreeSet<String> = addresses.iter().cloned().collect();
        waiting.extend(admin.known_addresses());
        waiting.retain(|address| *address != me.address && !heard.contains(address));
        if waiting.is_empty() {
            return Ok(());
        }
        let ask = waiting.iter().map(|address| {
            let request = JoinRequest { node: me.clone(), cluster: identity.map(|i| i.cluster) };
            async move {
                let reply = match peers.client(address, JOIN_TIMEOUT) {
                    Ok(client) => client.join(request).await,
                    Err(error) => Err(error),
                };
                (address.clone(), reply)
            }
        });
        let replies = futures::future::join_all(ask).await;
        for (address, reply) in replies {
            match reply {
                Ok(reply) => {
                    let (Some(cluster), Some(node)) = (reply.cluster, reply.node) else { continue };
                    if identity.is_some() {
                        heard.insert(address);
                        admin.learn(reply.nodes);
                    } else {
                        admin.admitted(Identity { cluster, node }, reply.nodes);
                    }
                }
                Err(AdminError::WrongCluster) => {
                    let mine = identity.map_or(0, |i| i.cluster.get());
                    return Err(ServerError::ForeignFolder { mine, peer: address });
                }
                Err(AdminError::Decommissioned) => return Err(Decommissioned.into()),
                Err(AdminError::Superseded) => {
                    let node = me.node.get();
                    return Err(ServerError::Superseded { node, peer: address });
                }
                Err(error) => tracing::debug!(%address, %error, "peer does not answer yet"),
            }
        }
        // A member knows where the others are; who does not answer is told of it when it does.
        let pause = if identity.is_some() { JOIN_TIMEOUT } else { JOIN_INTERVAL };
        tokio::time::sleep(pause).await;
    }
    Ok(())
}
