//! Leaders follow their clients: each node gives away the shards that are asked for by another one
//! ([`Node::misplaced`]), while the cluster setting `leaders.follow_clients` is on.

use std::sync::Arc;
use std::time::Duration;

use meridian_kv::ClusterAdmin;
use meridian_node::Node;
use meridian_session::ClusterSettings;

/// How often a node looks. What a second has shown is little; [`Node::misplaced`] wants to see it several times.
const EVERY: Duration = Duration::from_secs(1);

/// Gives shards away for as long as the node runs.
pub(crate) async fn follow_clients(
    node: Arc<Node>,
    cluster: Arc<ClusterAdmin>,
    settings: Arc<ClusterSettings>,
) {
    loop {
        tokio::time::sleep(EVERY).await;
        // Looked at even where nobody follows, so that the next look is about a second, too.
        let misplaced = node.misplaced();
        if !settings.leaders_follow_clients() {
            continue;
        }
        for (group, to) in misplaced {
            match cluster.lead_from(group, to).await {
                Ok(()) => {
                    tracing::info!(group = group.get(), to = to.get(), "leadership follows the clients")
                }
                Err(error) => tracing::debug!(group = group.get(), to = to.get(), %error, "it stays here"),
            }
        }
    }
}
