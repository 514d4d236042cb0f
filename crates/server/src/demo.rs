//! `meridian demo`: a whole cluster in one process.
//!
//! The nodes are whole nodes with folders, replicas and SQL ports of their own; only the transport between them is in
//! process, with the latency of the chosen table. The time masters are real servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use meridian_node::{LocalNetwork, Oscillator};
use meridian_rpc::Security;
use meridian_rpc::admin::NodeAddress;
use meridian_types::ClusterId;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::assembly::{self, Member, Parts};
use crate::clocks::{self, run_master};
use crate::http::{self, Pages};
use crate::identity::Folder;
use crate::peers::Peers;
use crate::start::{bind_pg, discipline, sources};
use crate::{ClockSource, DemoOptions, MasterOptions, ServerError, shutdown};

/// Time masters of a demo: a minority may lie.
const MASTERS: u64 = 3;

/// How fast the nodes' oscillators run, so that the clocks of a demo differ as those of real machines do.
const DRIFTS_PPM: [i64; 4] = [12, -35, 60, -8];

/// Runs a cluster until a signal. Time is told and asked for on `replication`: a statement that computes for long must
/// not make the clocks unsure.
///
/// # Errors
/// A port is taken, or the folder is of no use.
pub async fn demo(options: DemoOptions, replication: &Handle) -> Result<(), ServerError> {
    let shutdown = shutdown::on_signal();
    let scratch = options.data.is_none().then(scratch_folder);
    let result = run(&options, scratch.as_ref().or(options.data.as_ref()), replication, shutdown).await;
    if let Some(scratch) = scratch
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        tracing::warn!(%error, folder = %scratch.display(), "cannot remove the demo's data");
    }
    result
}

fn scratch_folder() -> PathBuf {
    std::env::temp_dir().join(format!("meridian-demo-{}", std::process::id()))
}

/// A node of the demo before it starts.
struct Prepared {
    folder: Arc<Folder>,
    admin: Arc<Admin>,
    peers: Arc<Peers>,
    pg: meridian_pgwire_server::PgServer,
    ready: Arc<AtomicBool>,
    region: String,
    _http: tokio::task::JoinHandle<()>,
}

async fn run(
    options: &DemoOptions,
    data: Option<&PathBuf>,
    replication: &Handle,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let data = data.expect("either given or a scratch folder");
    let (latency, table_regions) = options.latency.load()?;
    let regions = if options.regions.is_empty() { table_regions } else { options.regions.clone() };
    let clock = ClockSource::Masters(start_masters(replication, &shutdown).await?);
    let mut nodes = Vec::new();
    for i in 0..options.nodes {
        nodes.push(prepare(options, data, &regions[i % regions.len()], i, &shutdown).await?);
    }
    form_cluster(&nodes)?;
    let network = LocalNetwork::new(latency);
    let mut guards = Vec::new();
    let starting = nodes.into_iter().enumerate().map(|(i, prepared)| {
        let oscillator = Oscillator::disturbed(0, DRIFTS_PPM[i % DRIFTS_PPM.len()]);
        let (disciplined, guard) = {
            let _entered = replication.enter();
            discipline(sources(&clock, &Security::none()), oscillator)
        };
        guards.push(guard);
        start_one(prepared, network.clone(), disciplined, options.shards_per_table, shutdown.clone())
    });
    let starting = futures::future::try_join_all(starting.collect::<Vec<_>>());
    let members: Vec<Member> = tokio::select! {
        members = starting => members?,
        () = shutdown.cancelled() => return Ok(()),
    };
    println!(
        "ready: postgresql://root@127.0.0.1:{}/defaultdb console: http://127.0.0.1:{}",
        options.pg_port, options.http_port
    );
    shutdown.cancelled().await;
    futures::future::join_all(members.into_iter().map(Member::stop)).await;
    Ok(())
}

async fn start_masters(
    replication: &Handle,
    shutdown: &CancellationToken,
) -> Result<Vec<String>, ServerError> {
    let mut addresses = Vec::new();
    for seed in 0..MASTERS {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |error| ServerError::Listen { what: "time", address: listen, error };
        let bound = replication.spawn(TcpListener::bind(listen)).await;
        let listener = bound.expect("binding a port does not panic").map_err(failed)?;
        addresses.push(listener.local_addr().map_err(failed)?.to_string());
        let options = MasterOptions {
            listen,
            uncertainty: clocks::DEFAULT_UNCERTAINTY,
            offset_ns: 0,
            drift_ppm: 0,
            seed,
            certs: None,
        };
        let shutdown = shutdown.clone();
        // Ends with the shutdown.
        replication.spawn(async move {
            if let Err(error) = run_master(listener, &options, &Security::none(), shutdown).await {
                tracing::error!(%error, "a time master ended");
            }
        });
    }
    Ok(addresses)
}

async fn prepare(
    options: &DemoOptions,
    data: &std::path::Path,
    region: &str,
    i: usize,
    shutdown: &CancellationToken,
) -> Result<Prepared, ServerError> {
    let port = |first: u16| first.checked_add(i as u16).ok_or_else(too_high);
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (pg, http) = (local(port(options.pg_port)?), local(port(options.http_port)?));
    let pg_server = bind_pg(pg, None)?;
    let http_listener = http::bind(http).await?;
    let folder = Arc::new(Folder::open(&data.join(format!("node{}", i + 1)))?);
    let me = NodeAddress {
        node: Default::default(),
        address: format!("demo-node-{}", i + 1),
        sql_address: pg.to_string(),
        http_address: http.to_string(),
        region: region.to_string(),
        zone: "demo".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        folder: folder.id,
    };
    let peers = Peers::new(Security::none());
    let admin = Admin::new(me, Vec::new(), folder.clone(), peers.clone());
    let ready = Arc::new(AtomicBool::new(false));
    let pages = Arc::new(Pages { peers: peers.clone(), ready: ready.clone() });
    let http_server = tokio::spawn(http::serve(http_listener, pages, shutdown.clone()));
    Ok(Prepared {
        folder,
        admin,
        peers,
        pg: pg_server,
        ready,
        region: region.to_string(),
        _http: http_server,
    })
}

fn too_high() -> ServerError {
    ServerError::Usage { detail: "the ports of the last nodes would be above 65535".into() }
}

/// Makes the nodes members: of the cluster that their folders remember, or of a new one.
fn form_cluster(nodes: &[Prepared]) -> Result<(), ServerError> {
    let identities: Vec<_> = nodes.iter().map(|n| n.folder.identity()).collect::<Result<_, _>>()?;
    let records: Vec<NodeAddress> = nodes.iter().map(|n| n.admin.me()).collect();
    let mut plan = match identities.iter().flatten().count() {
        0 => Some(meridian_member::requests(
            ClusterId::new(rand::random()),
            &meridian_member::number(records.clone()),
        )),
        n if n == nodes.len() => None,
        n => {
            let detail = format!("the data folder has {n} nodes, not {}: give the same --nodes", nodes.len());
            return Err(ServerError::Usage { detail });
        }
    };
    for (i, node) in nodes.iter().enumerate() {
        for (j, other) in nodes.iter().enumerate() {
            if i != j {
                let record = NodeAddress { node: id_of(j), ..records[j].clone() };
                node.peers.put(record, Some(other.admin.handler()));
            }
        }
        match (&mut plan, &identities[i]) {
            (Some(plan), _) => {
                let request = plan.remove(&id_of(i)).expect("every node is in the plan");
                node.admin.take_bootstrap(request)?;
            }
            (None, Some(identity)) => node.admin.resume(*identity, Vec::new())?,
            (None, None) => unreachable!("either all folders have an identity or none"),
        }
    }
    Ok(())
}

fn id_of(i: usize) -> meridian_types::NodeId {
    meridian_types::NodeId::new(i as u32 + 1)
}

async fn start_one(
    prepared: Prepared,
    network: Arc<LocalNetwork>,
    clock: Arc<meridian_node::NodeClock>,
    shards_per_table: u32,
    shutdown: CancellationToken,
) -> Result<Member, ServerError> {
    let membership = prepared.admin.member().await;
    let transport = network.transport(membership.identity.node, &prepared.region);
    let parts = Parts {
        folder: prepared.folder,
        admin: prepared.admin,
        peers: prepared.peers,
        clock,
        transport,
        pg: prepared.pg,
        ready: prepared.ready,
        shards_per_table,
        shutdown,
    };
    assembly::start(parts, membership).await
}
