//! From started processes to a cluster.
//!
//! Started nodes make themselves known to those on their `--join` list. `init` at one of them numbers the nodes in the
//! order of its own list, places the first shards, writes that plan down and tells everyone. Each node writes the plan
//! down too before it answers, and who it is. From then on a node's folder knows who it is, and whether it has created
//! its first replicas, which it does once. An `init` that was interrupted goes on with the same plan.

use std::collections::BTreeMap;

use meridian_keys::user_span;
use meridian_paxos::MemberKind;
use meridian_rpc::admin::{BootstrapRequest, NodeAddress};
use meridian_shard::ShardDescriptor;
use meridian_types::{ClusterId, GroupId, NodeId, Span};

/// The shard of the system keyspace: the shard map itself, the catalog, the nodes.
pub const SYSTEM_GROUP: GroupId = GroupId::new(1);

/// The first shard of user data; tables split it.
pub const USER_GROUP: GroupId = GroupId::new(2);

/// Voters of the first shards. Placement policies come with placement; three survive the loss of one.
const VOTERS: usize = 3;

/// The first shards: everything below user data, and user data.
pub(crate) fn first_shards(nodes: &[NodeId]) -> Vec<ShardDescriptor> {
    assert!(!nodes.is_empty(), "a cluster has at least one node");
    let replicas: Vec<(NodeId, MemberKind)> =
        nodes.iter().take(VOTERS).map(|node| (*node, MemberKind::Voter)).collect();
    let users = user_span().start;
    let descriptor = |group, span| ShardDescriptor { group, span, generation: 1, replicas: replicas.clone() };
    vec![
        descriptor(SYSTEM_GROUP, Span::new(Span::ALL.start, Some(users.clone()))),
        descriptor(USER_GROUP, Span::new(users, None)),
    ]
}

/// Gives the first nodes their ids, in order.
pub fn number(mut nodes: Vec<NodeAddress>) -> Vec<NodeAddress> {
    for (i, node) in nodes.iter_mut().enumerate() {
        node.node = NodeId::new(i as u32 + 1);
    }
    nodes
}

/// What each node of a new cluster is told. The first one leads at first.
pub fn requests(cluster: ClusterId, nodes: &[NodeAddress]) -> BTreeMap<NodeId, BootstrapRequest> {
    let ids: Vec<NodeId> = nodes.iter().map(|n| n.node).collect();
    let shards = first_shards(&ids);
    let request = |node: NodeId| {
        let mine: Vec<_> =
            shards.iter().filter(|s| s.replicas.iter().any(|(n, _)| *n == node)).cloned().collect();
        let campaign = if node == ids[0] { mine.iter().map(|s| s.group).collect() } else { Vec::new() };
        BootstrapRequest { cluster, node, nodes: nodes.to_vec(), shards: mine, campaign }
    };
    ids.iter().map(|node| (*node, request(*node))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_shards_cover_all_keys_and_live_on_three_nodes() {
        let nodes: Vec<NodeAddress> =
            (0..5).map(|i| NodeAddress { address: format!("h{i}:1"), ..NodeAddress::default() }).collect();
        let plan = requests(ClusterId::new(7), &number(nodes));
        assert_eq!(plan.len(), 5);
        let first = &plan[&NodeId::new(1)];
        assert_eq!(first.shards[0].span.start, Span::ALL.start);
        assert_eq!(first.shards[0].span.end.as_ref(), Some(&first.shards[1].span.start));
        assert_eq!(first.shards[1].span.end, None);
        assert_eq!(first.campaign, vec![SYSTEM_GROUP, USER_GROUP]);
        assert!(plan[&NodeId::new(2)].campaign.is_empty());
        assert!(plan[&NodeId::new(4)].shards.is_empty());
        assert_eq!(plan[&NodeId::new(5)].nodes[2].address, "h2:1");
    }
}
