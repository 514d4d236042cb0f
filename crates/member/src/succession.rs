//! A node that takes the place of one whose folder is lost.
//!
//! A node that starts with a new folder at the address of an earlier node is a new node: it does not know what the
//! earlier one promised (I-3), which therefore is as good as dead. What it had is moved here, one change of members after
//! the other, as an operator would ask for it (`meridian.move_replica`); then it is marked as decommissioned. Doing so is
//! safe even where the earlier node lives on at another address. Every node looks for predecessors when it starts, so that an
//! interrupted succession goes on.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::{ClusterAdmin, Gateway, nodes};
use meridian_kv_api::{Cluster, KvError};
use meridian_rpc::admin::NodeAddress;
use meridian_types::NodeId;

/// How long a failed attempt is not repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes the place of every node that was at this one's address before, and returns.
pub(crate) async fn run(gateway: Gateway, cluster: Arc<ClusterAdmin>, me: NodeAddress) {
    loop {
        match succeed(&gateway, &cluster, &me).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "cannot take the place of an earlier node yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn succeed(gateway: &Gateway, cluster: &ClusterAdmin, me: &NodeAddress) -> Result<(), KvError> {
    for earlier in predecessors(gateway, me).await? {
        tracing::warn!(
            earlier = earlier.get(),
            address = me.address,
            "an earlier node was here, with another folder: its replicas are moved to this one"
        );
        loop {
            let shards = cluster.shards().await?;
            let left: Vec<u64> =
                shards.into_iter().filter(|s| s.replicas.contains(&earlier)).map(|s| s.group).collect();
            if left.is_empty() {
                break;
            }
            for group in left {
                cluster.move_replica(group, earlier, me.node).await?;
                tracing::info!(group, earlier = earlier.get(), "replica moved here");
            }
        }
        nodes::mark(gateway, earlier).await?;
        tracing::info!(earlier = earlier.get(), "the earlier node is replaced");
    }
    Ok(())
}

/// The nodes before this one whose records name its address.
async fn predecessors(gateway: &Gateway, me: &NodeAddress) -> Result<Vec<NodeId>, KvError> {
    let earlier = nodes::records(gateway).await?.into_iter().filter_map(|(node, record)| {
        let is_here = node < me.node && record["address"].as_str() == Some(me.address.as_str());
        (is_here && record["decommissioned"] != true).then_some(node)
    });
    Ok(earlier.collect())
}
