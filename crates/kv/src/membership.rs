//! Changing where a shard's replicas live.
//!
//! ```text
//!   move_replica:  add the new node read-only -> it catches up -> promote it -> hand over, if the old one leads
//!                  -> remove the old one
//! ```
//! A witness is added as an observer first, and moved as one.
//!
//! Every step is one change in the shard's own log, followed by the shard map. Steps that are done already are passed
//! over, so a move that was interrupted is finished by asking for it again.

use std::time::Duration;

use meridian_kv_api::{KvError, ReplicaChange};
use meridian_paxos::MemberKind;
use meridian_shard::{Request, Response, ShardDescriptor, ShardError};
use meridian_types::NodeId;

use crate::admin::ClusterAdmin;
use crate::call::{Failure, Resend, Tries, unexpected};
use crate::router::Shard;

/// How long a new voter may take to get the data. Whoever asked for it may give up earlier, and ask again.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(3_600);

fn refuse<T>(detail: String) -> Result<T, KvError> {
    Err(KvError::Unavailable { detail })
}

fn kind_of(descriptor: &ShardDescriptor, node: NodeId) -> Option<MemberKind> {
    descriptor.replicas.iter().find(|(n, _)| *n == node).map(|(_, kind)| *kind)
}

impl ClusterAdmin {
    /// The shard of a group, by the shard map.
    pub(crate) async fn shard_of(&self, group: u64) -> Result<Shard, KvError> {
        let all = self.descriptors().await?;
        match all.into_iter().find(|d| d.group.get() == group) {
            Some(descriptor) => Ok(Shard::new(descriptor, None)),
            None => refuse(format!("there is no group {group}")),
        }
    }

    pub(crate) async fn move_replica_of(&self, group: u64, from: NodeId, to: NodeId) -> Result<(), KvError> {
        let shard = self.shard_of(group).await?;
        let Some(kind) = kind_of(&shard.descriptor, from) else {
            // Perhaps the end of a move that was interrupted.
            return match kind_of(&shard.descriptor, to) {
                Some(_) => Ok(()),
                None => refuse(format!("group {group} has no replica on node {from}")),
            };
        };
        if from == to {
            return Ok(());
        }
        if kind_of(&shard.descriptor, to).is_none() {
            let first = if kind.holds_data() { MemberKind::ReadOnly } else { MemberKind::Observer };
            self.change(group, to, Some(first)).await?;
        }
        self.change(group, to, Some(kind)).await?;
        self.change(group, from, None).await
    }

    pub(crate) async fn change_replica_of(
        &self,
        group: u64,
        node: NodeId,
        change: ReplicaChange,
    ) -> Result<(), KvError> {
        let shard = self.shard_of(group).await?;
        let kind = match (change, kind_of(&shard.descriptor, node)) {
            (ReplicaChange::Add, Some(MemberKind::Voter)) => {
                return refuse(format!("group {group} has a voter on node {node} already"));
            }
            (ReplicaChange::AddWitness, Some(kind)) if kind.holds_data() => {
                let kind = kind.name();
                return refuse(format!("group {group} has a {kind} replica on node {node}: remove it first"));
            }
            (
                ReplicaChange::Add | ReplicaChange::Promote | ReplicaChange::Demote,
                Some(MemberKind::Witness | MemberKind::Observer),
            ) => {
                return refuse(format!(
                    "group {group} has a witness on node {node}, which has no data: remove it first"
                ));
            }
            (ReplicaChange::AddWitness, found) => {
                if found.is_none() {
                    self.change(group, node, Some(MemberKind::Observer)).await?;
                }
                Some(MemberKind::Witness)
            }
            (ReplicaChange::Promote | ReplicaChange::Demote, None) => {
                return refuse(format!("group {group} has no replica on node {node}"));
            }
            (ReplicaChange::Add | ReplicaChange::Demote, _) => Some(MemberKind::ReadOnly),
            (ReplicaChange::Promote, Some(_)) => Some(MemberKind::Voter),
            (ReplicaChange::Remove, _) => None,
        };
        self.change(group, node, kind).await
    }

    /// One change in the shard's log, and then in the map. A leader that would lose its own vote hands over first.
    async fn change(&self, group: u64, node: NodeId, kind: Option<MemberKind>) -> Result<(), KvError> {
        let nodes = self.member_nodes().await?;
        if kind.is_some() && !nodes.contains(&node) {
            return refuse(format!("there is no node {node}"));
        }
        let core = &self.gateway.core;
        let mut tries = Tries::within(CATCH_UP_WITHIN);
        let mut hand_overs = 0;
        loop {
            let shard = self.shard_of(group).await?;
            let make = || Request::ChangeReplica { node, kind };
            match core.ask(&shard, &mut tries, Resend::Always, &make).await {
                Ok(Response::Changed { descriptor }) => {
                    return self.gateway.publish_descriptors(vec![descriptor]).await;
                }
                Ok(other) => return Err(unexpected("ChangeReplica", &other)),
                Err(Failure::Refused(ShardError::UnsoundChange)) => {
                    let is_leader = shard.leader() == Some(node) && kind != Some(MemberKind::Voter);
                    let successor = shard.voters().find(|voter| *voter != node);
                    let (true, Some(successor), true) = (is_leader, successor, hand_overs < 3) else {
                        return refuse(format!("the members of group {group} can't be changed so"));
                    };
                    hand_overs += 1;
                    self.transfer(group, successor).await?;
                }
                Err(Failure::Moved | Failure::Unanswered | Failure::Refused(ShardError::OutcomeUnknown)) => {}
                Err(failure) => return Err(failure.into()),
            }
            tries.pause(core, "the members of a shard can't be changed").await?;
        }
    }
}
