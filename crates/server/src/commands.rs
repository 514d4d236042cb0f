//! The small commands: `init`, `status`, `node`, `time-master`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use meridian_rpc::AdminClient;
use meridian_rpc::admin::AdminError;
use meridian_types::NodeId;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::clocks::run_master;
use crate::http::{Seen, cluster_json};
use crate::{MasterOptions, ServerError, certificates, shutdown};

/// Initialising waits for nodes that are still starting.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Draining hands over one shard after the other.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// To move one replica may take as long as its data takes to be copied.
const DEPARTURE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The node that a command is for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address for other nodes.
    pub host: String,
    /// Certificates, where the cluster has them.
    pub certs: Option<PathBuf>,
}

impl Target {
    fn client(&self, timeout: Duration) -> Result<AdminClient, ServerError> {
        let security = certificates::of_operator(self.certs.as_deref())?;
        Ok(AdminClient::new(&self.host, &security, timeout)?)
    }
}

/// `meridian init`: makes a cluster of the nodes that gathered at a host.
///
/// # Errors
/// The node is not there, is a member already, or lacks peers.
pub async fn init(target: &Target) -> Result<(), ServerError> {
    let reply = target.client(INIT_TIMEOUT)?.init().await?;
    println!("cluster {:032x} with {} nodes", reply.cluster.get(), reply.nodes.len());
    Ok(())
}

/// `meridian time-master`: serves time until a signal.
///
/// # Errors
/// The port is taken.
pub async fn time_master(options: MasterOptions) -> Result<(), ServerError> {
    let security = certificates::of_node(options.certs.as_deref())?.peers;
    let address = options.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| ServerError::Listen {
        what: "time",
        address,
        error,
    })?;
    tracing::info!(%address, "serving time");
    run_master(listener, &options, &security, shutdown::on_signal()).await
}

/// `meridian status`: what the cluster looks like from a host, the address of a node for other nodes or for HTTP.
///
/// # Errors
/// The node does not answer.
pub async fn status(target: &Target, as_json: bool) -> Result<(), ServerError> {
    let view = cluster_view(target).await?;
    if as_json {
        println!("{view:#}");
        return Ok(());
    }
    print_nodes(&view);
    println!();
    println!(
        "{:<7} {:<24} {:<7} {:<12} {:>10} {:>10}",
        "shard", "keys from", "leader", "replicas", "committed", "applied"
    );
    for shard in rows(&view, "shards") {
        let kinds = rows(shard, "kinds").map(|kind| kind.as_str().unwrap_or_default());
        let replica = |(n, kind): (&Value, &str)| match kind {
            "" | "voter" => format!("n{n}"),
            kind => format!("n{n}:{kind}"),
        };
        let replicas: Vec<String> = rows(shard, "replicas").zip(kinds).map(replica).collect();
        let leader = shard["leader"].as_u64().map_or("none".to_string(), |n| format!("n{n}"));
        println!(
            "{:<7} {:<24} {:<7} {:<12} {:>10} {:>10}",
            format!("g{}", shard["group"]),
            text(shard, "start"),
            leader,
            replicas.join(" "),
            number(shard, "committed"),
            number(shard, "applied"),
        );
    }
    for alert in rows(&view, "alerts") {
        println!("\nalert: {}", alert.as_str().unwrap_or_default());
    }
    Ok(())
}

/// `meridian node list`: the members of the cluster as a host knows them.
///
/// # Errors
/// The node does not answer.
pub async fn node_list(target: &Target) -> Result<(), ServerError> {
    print_nodes(&cluster_view(target).await?);
    Ok(())
}

/// `meridian node drain`: the node at a host hands over every shard that it leads, so that it can be stopped without
/// an election. It stays a member and a voter, and may be elected again while it runs.
///
/// # Errors
/// The node does not answer, or leads shards still, for which no other replica was ready.
pub async fn node_drain(target: &Target) -> Result<(), ServerError> {
    match target.client(DRAIN_TIMEOUT)?.drain().await? {
        0 => {
            println!("drained: leads no shard");
            Ok(())
        }
        left => {
            let detail = format!("{left} shards are led here still; no other replica of theirs is ready");
            Err(AdminError::Failed { detail }.into())
        }
    }
}

/// `meridian node decommission`: moves every replica away from a node, the one at the host or another, which may be dead;
/// then it is no member any more, and its process ends.
///
/// # Errors
/// The host does not answer; no other node can take a replica.
pub async fn node_decommission(target: &Target, node: Option<u32>) -> Result<(), ServerError> {
    let client = target.client(DEPARTURE_TIMEOUT)?;
    let mut told = None;
    loop {
        let departure = client.decommission(node.map(NodeId::new)).await?;
        if departure.is_out {
            println!("decommissioned: node {} is no member any more", departure.node);
            return Ok(());
        }
        if told != Some(departure.replicas_left) {
            println!("node {}: {} replicas are to be moved still", departure.node, departure.replicas_left);
            told = Some(departure.replicas_left);
        }
    }
}

fn rows<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_default()
}

fn print_nodes(view: &Value) {
    println!(
        "{:<5} {:<22} {:<22} {:<12} {:<6} {:>6} {:>9} {:>10}",
        "node", "address", "SQL", "region", "live", "leads", "sessions", "epsilon"
    );
    for (node, clock) in rows(view, "nodes").zip(rows(view, "clocks")) {
        let epsilon = clock["epsilon_ns"].as_u64();
        let epsilon = epsilon.map_or("unsure".to_string(), |ns| format!("{:.3} ms", ns as f64 / 1e6));
        println!(
            "{:<5} {:<22} {:<22} {:<12} {:<6} {:>6} {:>9} {:>10}",
            format!("n{}", node["node"]),
            text(node, "address"),
            text(node, "sql_address"),
            text(node, "region"),
            if node["live"].as_bool().unwrap_or_default() { "yes" } else { "no" },
            number(node, "leads"),
            number(node, "sessions"),
            epsilon,
        );
    }
}

/// The cluster as a host sees it. The nodes of `demo` have no port for other nodes, only one for HTTP.
async fn cluster_view(target: &Target) -> Result<Value, ServerError> {
    match ask_all(target).await {
        Ok(seen) => Ok(cluster_json(&seen)),
        Err(error) => match timeout(STATUS_TIMEOUT, ask_http(&target.host)).await {
            Ok(Some(view)) => Ok(view),
            _ => Err(error),
        },
    }
}

/// The same over HTTP; `None` where no node of Meridian answers.
async fn ask_http(host: &str) -> Option<Value> {
    let stream = TcpStream::connect(host).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with the answer, or with the command.
    tokio::spawn(connection);
    let request = Request::get("/api/v1/cluster").header("host", host).body(Empty::<Bytes>::new()).ok()?;
    let answer = sender.send_request(request).await.ok()?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok().filter(|view: &Value| view["nodes"].is_array())
}

/// Asks the host who is there, and then each of them.
async fn ask_all(target: &Target) -> Result<Vec<Seen>, ServerError> {
    let security = certificates::of_operator(target.certs.as_deref())?;
    let first = AdminClient::new(&target.host, &security, STATUS_TIMEOUT)?;
    let status = first.node_status().await?;
    if status.cluster.is_none() {
        return Err(AdminError::NotInitialised.into());
    }
    let request = meridian_rpc::admin::JoinRequest { node: status.node.clone(), cluster: status.cluster };
    let nodes = first.join(request).await?.nodes;
    let security = &security;
    let ask = nodes.into_iter().map(|address| async move {
        let status = match AdminClient::new(&address.address, security, STATUS_TIMEOUT) {
            Ok(client) => client.node_status().await.ok().filter(|s| s.node.node == address.node),
            Err(_) => None,
        };
        Seen { address, status }
    });
    Ok(futures::future::join_all(ask).await)
}
