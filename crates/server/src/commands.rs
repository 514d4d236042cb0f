//! The small commands: `init`, `status`, `node`, `time-master`.

use std::time::Duration;

use meridian_rpc::AdminClient;
use meridian_rpc::admin::AdminError;
use tokio::net::TcpListener;

use crate::clocks::run_master;
use crate::http::{Seen, cluster_json};
use crate::{MasterOptions, ServerError, shutdown};

/// Initialising waits for nodes that are still starting.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Draining hands over one shard after the other.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// `meridian init`: makes a cluster of the nodes that gathered at `host`.
///
/// # Errors
/// The node is not there, is a member already, or lacks peers.
pub async fn init(host: &str) -> Result<(), ServerError> {
    let reply = AdminClient::new(host, INIT_TIMEOUT)?.init().await?;
    println!("cluster {:032x} with {} nodes", reply.cluster.get(), reply.nodes.len());
    Ok(())
}

/// `meridian time-master`: serves time until a signal.
///
/// # Errors
/// The port is taken.
pub async fn time_master(options: MasterOptions) -> Result<(), ServerError> {
    let address = options.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| ServerError::Listen {
        what: "time",
        address,
        error,
    })?;
    tracing::info!(%address, "serving time");
    run_master(listener, &options, shutdown::on_signal()).await
}

/// `meridian status`: what the cluster looks like from `host`.
///
/// # Errors
/// The node does not answer.
pub async fn status(host: &str, as_json: bool) -> Result<(), ServerError> {
    let seen = ask_all(host).await?;
    let view = cluster_json(&seen);
    if as_json {
        println!("{view:#}");
        return Ok(());
    }
    print_nodes(&seen);
    println!();
    println!(
        "{:<7} {:<24} {:<7} {:<12} {:>10} {:>10}",
        "shard", "keys from", "leader", "replicas", "committed", "applied"
    );
    for shard in view["shards"].as_array().into_iter().flatten() {
        let replicas: Vec<String> =
            shard["replicas"].as_array().into_iter().flatten().map(|n| format!("n{n}")).collect();
        let leader = shard["leader"].as_u64().map_or("none".to_string(), |n| format!("n{n}"));
        println!(
            "g{:<6} {:<24} {:<7} {:<12} {:>10} {:>10}",
            shard["group"],
            shard["start"].as_str().unwrap_or(""),
            leader,
            replicas.join(" "),
            shard["committed"],
            shard["applied"],
        );
    }
    for alert in view["alerts"].as_array().into_iter().flatten() {
        println!("\nalert: {}", alert.as_str().unwrap_or(""));
    }
    Ok(())
}

/// `meridian node list`: the members of the cluster as `host` knows them.
///
/// # Errors
/// The node does not answer.
pub async fn node_list(host: &str) -> Result<(), ServerError> {
    print_nodes(&ask_all(host).await?);
    Ok(())
}

/// `meridian node drain`: the node at `host` hands over every shard that it leads, so that it can be stopped without
/// an election. It stays a member and a voter, and may be elected again while it runs.
///
/// # Errors
/// The node does not answer, or leads shards still, for which no other replica was ready.
pub async fn node_drain(host: &str) -> Result<(), ServerError> {
    match AdminClient::new(host, DRAIN_TIMEOUT)?.drain().await? {
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

fn print_nodes(seen: &[Seen]) {
    println!(
        "{:<5} {:<22} {:<22} {:<12} {:<6} {:>6} {:>9} {:>10}",
        "node", "address", "SQL", "region", "live", "leads", "sessions", "epsilon"
    );
    for Seen { address, status } in seen {
        let epsilon =
            status.as_ref().and_then(|s| s.clock.interval).map_or("unsure".to_string(), |(e, l)| {
                format!("{:.3} ms", (l - e).half_up().as_nanos() as f64 / 1e6)
            });
        println!(
            "n{:<4} {:<22} {:<22} {:<12} {:<6} {:>6} {:>9} {:>10}",
            address.node.get(),
            address.address,
            address.sql_address,
            address.region,
            if status.is_some() { "yes" } else { "no" },
            status.as_ref().map_or(0, |s| s.replicas.iter().filter(|r| r.is_leader).count()),
            status.as_ref().map_or(0, |s| s.sessions),
            epsilon,
        );
    }
}

/// Asks `host` who is there, and then each of them.
async fn ask_all(host: &str) -> Result<Vec<Seen>, ServerError> {
    let first = AdminClient::new(host, STATUS_TIMEOUT)?;
    let status = first.node_status().await?;
    if status.cluster.is_none() {
        return Err(AdminError::NotInitialised.into());
    }
    let request = meridian_rpc::admin::JoinRequest { node: status.node.clone(), cluster: status.cluster };
    let nodes = first.join(request).await?.nodes;
    let ask = nodes.into_iter().map(|address| async move {
        let status = match AdminClient::new(&address.address, STATUS_TIMEOUT) {
            Ok(client) => client.node_status().await.ok(),
            Err(_) => None,
        };
        Seen { address, status }
    });
    Ok(futures::future::join_all(ask).await)
}
