//! Identifiers, spans, membership.

use meridian_paxos::{MemberKind, Membership};
use meridian_shard::ShardDescriptor;
use meridian_types::{Ballot, ClusterId, GroupId, Key, NodeId, Span, Timestamp, TxnId};

use super::{WireError, all, each, need, proto};

impl From<Ballot> for proto::Ballot {
    fn from(b: Ballot) -> Self {
        proto::Ballot { round: b.round, node: b.node.get() }
    }
}

impl From<proto::Ballot> for Ballot {
    fn from(b: proto::Ballot) -> Self {
        Ballot::new(b.round, NodeId::new(b.node))
    }
}

impl From<TxnId> for proto::TxnId {
    fn from(t: TxnId) -> Self {
        proto::TxnId { first_start: t.first_start.as_nanos(), node: t.node.get(), seq: t.seq }
    }
}

impl From<proto::TxnId> for TxnId {
    fn from(t: proto::TxnId) -> Self {
        TxnId { first_start: Timestamp::from_nanos(t.first_start), node: NodeId::new(t.node), seq: t.seq }
    }
}

impl From<Span> for proto::Span {
    fn from(s: Span) -> Self {
        proto::Span { start: s.start.into_bytes(), end: s.end.map(Key::into_bytes) }
    }
}

impl From<proto::Span> for Span {
    fn from(s: proto::Span) -> Self {
        Span::new(Key::new(s.start), s.end.map(Key::new))
    }
}

impl From<ClusterId> for proto::ClusterId {
    fn from(c: ClusterId) -> Self {
        proto::ClusterId { high: (c.get() >> 64) as u64, low: c.get() as u64 }
    }
}

impl From<proto::ClusterId> for ClusterId {
    fn from(c: proto::ClusterId) -> Self {
        ClusterId::new((u128::from(c.high) << 64) | u128::from(c.low))
    }
}

impl From<(NodeId, MemberKind)> for proto::Member {
    fn from((node, kind): (NodeId, MemberKind)) -> Self {
        let kind = match kind {
            MemberKind::Voter => proto::MemberKind::Voter,
            MemberKind::ReadOnly => proto::MemberKind::ReadOnly,
            MemberKind::Witness => proto::MemberKind::Witness,
            MemberKind::Observer => proto::MemberKind::Observer,
        };
        proto::Member { node: node.get(), kind: kind.into() }
    }
}

impl TryFrom<proto::Member> for (NodeId, MemberKind) {
    type Error = WireError;
    fn try_from(m: proto::Member) -> Result<Self, WireError> {
        let kind = match m.kind() {
            proto::MemberKind::Voter => MemberKind::Voter,
            proto::MemberKind::ReadOnly => MemberKind::ReadOnly,
            proto::MemberKind::Witness => MemberKind::Witness,
            proto::MemberKind::Observer => MemberKind::Observer,
            proto::MemberKind::Unspecified => return Err(WireError::Missing { field: "member.kind" }),
        };
        Ok((NodeId::new(m.node), kind))
    }
}

/// Members, which every sender lists in ascending order of node and once each.
fn members(list: Vec<proto::Member>, field: &'static str) -> Result<Vec<(NodeId, MemberKind)>, WireError> {
    let members: Vec<(NodeId, MemberKind)> = all(list)?;
    let ascending = members.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if ascending { Ok(members) } else { Err(WireError::OutOfRange { field }) }
}

impl From<Membership> for proto::Membership {
    fn from(m: Membership) -> Self {
        proto::Membership { members: each(m.members) }
    }
}

impl TryFrom<proto::Membership> for Membership {
    type Error = WireError;
    fn try_from(m: proto::Membership) -> Result<Self, WireError> {
        Ok(Membership { members: members(m.members, "membership.members")? })
    }
}

impl From<ShardDescriptor> for proto::ShardDescriptor {
    fn from(d: ShardDescriptor) -> Self {
        proto::ShardDescriptor {
            group: d.group.get(),
            span: Some(d.span.into()),
            generation: d.generation,
            replicas: each(d.replicas),
        }
    }
}

impl TryFrom<proto::ShardDescriptor> for ShardDescriptor {
    type Error = WireError;
    fn try_from(d: proto::ShardDescriptor) -> Result<Self, WireError> {
        Ok(ShardDescriptor {
            group: GroupId::new(d.group),
            span: need(d.span, "descriptor.span")?.into(),
            generation: d.generation,
            replicas: members(d.replicas, "descriptor.replicas")?,
        })
    }
}
