//! Emptying a node for good.
//!
//! ```text
//!   every replica on it -> moved to the live node with the fewest, in its region where there is one -> none left
//! ```
//! A node that is dead is emptied in the same way: a move adds before it removes, and needs a quorum of the shard, not the
//! node. What was done is not done again, so whoever is interrupted asks again.

use std::collections::BTreeMap;

use meridian_kv_api::{KvError, NodeInfo};
use meridian_shard::ShardDescriptor;
use meridian_types::NodeId;

use crate::admin::ClusterAdmin;

/// Where a replica that leaves `node` goes; `None` where every live node has one of the shard.
fn destination(
    shard: &ShardDescriptor,
    node: NodeId,
    nodes: &[NodeInfo],
    loads: &BTreeMap<NodeId, usize>,
) -> Option<NodeId> {
    let region = nodes.iter().find(|n| n.node == node).map(|n| n.region.as_str());
    let has_one = |n: &NodeInfo| shard.replicas.iter().any(|(member, _)| *member == n.node);
    let free = nodes.iter().filter(|n| n.is_live && n.node != node && !has_one(n));
    let cost = |n: &&NodeInfo| {
        let load = loads.get(&n.node).copied().unwrap_or_default();
        (Some(n.region.as_str()) != region, load, n.node)
    };
    free.min_by_key(cost).map(|n| n.node)
}

impl ClusterAdmin {
    /// Moves one replica away from `node`; how many are left.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] where no live node can take one of them, before anything is moved; and where a shard has no
    /// quorum.
    pub async fn move_one_away(&self, node: NodeId) -> Result<usize, KvError> {
        let nodes = self.nodes.nodes().await?;
        let shards = self.descriptors().await?;
        let mut loads: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (member, _) in shards.iter().flat_map(|s| &s.replicas) {
            *loads.entry(*member).or_default() += 1;
        }
        let mut moves = Vec::new();
        for shard in shards.iter().filter(|s| s.replicas.iter().any(|(member, _)| *member == node)) {
            let Some(to) = destination(shard, node, &nodes, &loads) else {
                let detail = format!(
                    "every live node has a replica of group {} already: start another node first",
                    shard.group
                );
                return Err(KvError::Unavailable { detail });
            };
            moves.push((shard.group.get(), to));
        }
        let Some((group, to)) = moves.first().copied() else { return Ok(0) };
        self.move_replica_of(group, node, to).await?;
        Ok(moves.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use meridian_paxos::MemberKind;
    use meridian_types::{GroupId, Span};

    use super::*;

    fn node(id: u32, region: &str, is_live: bool) -> NodeInfo {
        NodeInfo {
            node: NodeId::new(id),
            address: String::new(),
            sql_address: String::new(),
            http_address: String::new(),
            region: region.into(),
            zone: String::new(),
            is_live,
            version: String::new(),
        }
    }

    #[test]
    fn the_emptiest_live_node_of_the_region_takes_it() {
        let replicas = [1, 2, 3].map(|n| (NodeId::new(n), MemberKind::Voter)).to_vec();
        let shard = ShardDescriptor { group: GroupId::new(5), span: Span::ALL, generation: 1, replicas };
        let mut nodes = vec![node(1, "a", false), node(2, "b", true), node(3, "c", true)];
        let leaving = NodeId::new(1);
        let chosen = |nodes: &[NodeInfo], loads: &[(u32, usize)]| {
            let loads = loads.iter().map(|(n, load)| (NodeId::new(*n), *load)).collect();
            destination(&shard, leaving, nodes, &loads).map(NodeId::get)
        };
        assert_eq!(chosen(&nodes, &[]), None, "whoever is there has one");
        nodes.push(node(4, "b", true));
        nodes.push(node(5, "c", true));
        assert_eq!(chosen(&nodes, &[(4, 3), (5, 1)]), Some(5));
        nodes.push(node(6, "a", true));
        assert_eq!(chosen(&nodes, &[(4, 3), (5, 1), (6, 9)]), Some(6), "the region counts first");
        nodes.last_mut().unwrap().is_live = false;
        assert_eq!(chosen(&nodes, &[(4, 1), (5, 1)]), Some(4));
    }
}
