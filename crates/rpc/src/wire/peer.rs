//! Frames between nodes.

use meridian_paxos::Envelope;
use meridian_shard::ClosedTimestamp;
use meridian_shard::beats::{Beat, BeatAnswer, Join};
use meridian_types::{GroupId, Slot, Timestamp};

use super::proto::peer_message as p;
use super::{WireError, all, each, need, proto};
use crate::peer::{GroupClosed, PeerMessage, SnapshotBeside, SnapshotPart, SnapshotRow, SnapshotVerdict};

/// The frame that carries these messages.
pub(crate) fn frame_of(hello: Option<proto::Hello>, messages: Vec<PeerMessage>) -> proto::Frame {
    proto::Frame { hello, messages: each(messages) }
}

impl From<GroupClosed> for p::GroupClosed {
    fn from(g: GroupClosed) -> Self {
        p::GroupClosed {
            group: g.group.get(),
            ballot: Some(g.closed.ballot.into()),
            closed: g.closed.closed.as_nanos(),
            through: g.closed.through.get(),
        }
    }
}

impl TryFrom<p::GroupClosed> for GroupClosed {
    type Error = WireError;
    fn try_from(g: p::GroupClosed) -> Result<Self, WireError> {
        Ok(GroupClosed {
            group: GroupId::new(g.group),
            closed: ClosedTimestamp {
                ballot: need(g.ballot, "closed.ballot")?.into(),
                closed: Timestamp::from_nanos(g.closed),
                through: Slot::new(g.through),
            },
        })
    }
}

impl From<Join> for p::Join {
    fn from(j: Join) -> Self {
        p::Join { group: j.group.get(), ballot: Some(j.ballot.into()), through: j.through.get() }
    }
}

impl TryFrom<p::Join> for Join {
    type Error = WireError;
    fn try_from(j: p::Join) -> Result<Self, WireError> {
        Ok(Join {
            group: GroupId::new(j.group),
            ballot: need(j.ballot, "join.ballot")?.into(),
            through: Slot::new(j.through),
        })
    }
}

impl From<Beat> for p::Beat {
    fn from(b: Beat) -> Self {
        p::Beat {
            stream: b.stream,
            sequence: b.sequence,
            lease: b.lease.map(Into::into),
            closed: b.closed.map(Timestamp::as_nanos),
            leaves: b.leaves.into_iter().map(GroupId::get).collect(),
            joins: each(b.joins),
        }
    }
}

impl TryFrom<p::Beat> for Beat {
    type Error = WireError;
    fn try_from(b: p::Beat) -> Result<Self, WireError> {
        Ok(Beat {
            stream: b.stream,
            sequence: b.sequence,
            lease: b.lease.map(Into::into),
            closed: b.closed.map(Timestamp::from_nanos),
            leaves: b.leaves.into_iter().map(GroupId::new).collect(),
            joins: all(b.joins)?,
        })
    }
}

impl From<BeatAnswer> for p::BeatAnswer {
    fn from(a: BeatAnswer) -> Self {
        p::BeatAnswer {
            stream: a.stream,
            sequence: a.sequence,
            in_step: a.in_step,
            lease: a.lease.map(Into::into),
            left: a.left.into_iter().map(GroupId::get).collect(),
        }
    }
}

impl From<p::BeatAnswer> for BeatAnswer {
    fn from(a: p::BeatAnswer) -> Self {
        BeatAnswer {
            stream: a.stream,
            sequence: a.sequence,
            in_step: a.in_step,
            lease: a.lease.map(Into::into),
            left: a.left.into_iter().map(GroupId::new).collect(),
        }
    }
}

impl From<SnapshotRow> for p::SnapshotRow {
    fn from(row: SnapshotRow) -> Self {
        p::SnapshotRow { family: row.family, key: row.key, value: row.value }
    }
}

impl From<p::SnapshotRow> for SnapshotRow {
    fn from(row: p::SnapshotRow) -> Self {
        SnapshotRow { family: row.family, key: row.key, value: row.value }
    }
}

impl From<SnapshotPart> for p::SnapshotPart {
    fn from(part: SnapshotPart) -> Self {
        p::SnapshotPart { descriptor: Some(part.descriptor.into()), applied: part.applied.get() }
    }
}

impl TryFrom<p::SnapshotPart> for SnapshotPart {
    type Error = WireError;
    fn try_from(part: p::SnapshotPart) -> Result<Self, WireError> {
        Ok(SnapshotPart {
            descriptor: need(part.descriptor, "snapshot_part.descriptor")?.try_into()?,
            applied: Slot::new(part.applied),
        })
    }
}

impl From<SnapshotBeside> for p::SnapshotBeside {
    fn from(beside: SnapshotBeside) -> Self {
        p::SnapshotBeside { span: Some(beside.span.into()), parts: each(beside.parts) }
    }
}

impl TryFrom<p::SnapshotBeside> for SnapshotBeside {
    type Error = WireError;
    fn try_from(beside: p::SnapshotBeside) -> Result<Self, WireError> {
        Ok(SnapshotBeside {
            span: need(beside.span, "snapshot_beside.span")?.into(),
            parts: all(beside.parts)?,
        })
    }
}

impl From<SnapshotVerdict> for p::snapshot_reply::Verdict {
    fn from(v: SnapshotVerdict) -> Self {
        use p::snapshot_reply::Verdict as V;
        match v {
            SnapshotVerdict::Received(next) => V::Received(next),
            SnapshotVerdict::Refused => V::Refused(proto::Empty {}),
            SnapshotVerdict::Installed => V::Installed(proto::Empty {}),
            SnapshotVerdict::Narrows(span) => V::Narrows(span.into()),
        }
    }
}

impl From<p::snapshot_reply::Verdict> for SnapshotVerdict {
    fn from(v: p::snapshot_reply::Verdict) -> Self {
        use p::snapshot_reply::Verdict as V;
        match v {
            V::Received(next) => SnapshotVerdict::Received(next),
            V::Refused(_) => SnapshotVerdict::Refused,
            V::Installed(_) => SnapshotVerdict::Installed,
            V::Narrows(span) => SnapshotVerdict::Narrows(span.into()),
        }
    }
}

impl From<PeerMessage> for proto::PeerMessage {
    fn from(message: PeerMessage) -> Self {
        use p::Kind as K;
        let kind = match message {
            PeerMessage::Paxos(envelope) => K::Paxos(envelope.into()),
            PeerMessage::Call { id, group, request } => {
                K::Call(p::Call { id, group: group.get(), request: Some(request.into()) })
            }
            PeerMessage::Answer { id, result } => {
                let result = match result {
                    Ok(response) => p::answer::Result::Response(response.into()),
                    Err(error) => p::answer::Result::Error(error.into()),
                };
                K::Answer(p::Answer { id, result: Some(result) })
            }
            PeerMessage::Cancel { id } => K::Cancel(id),
            PeerMessage::Closed(groups) => K::Closed(p::Closed { groups: each(groups) }),
            PeerMessage::Beat(beat) => K::Beat(beat.into()),
            PeerMessage::BeatAnswer(answer) => K::BeatAnswer(answer.into()),
            PeerMessage::NotMember { group, generation } => {
                K::NotMember(p::NotMember { group: group.get(), generation })
            }
            PeerMessage::UnknownGroup { group } => K::UnknownGroup(group.get()),
            PeerMessage::SnapshotOffer { id, descriptor, applied, beside } => {
                K::SnapshotOffer(p::SnapshotOffer {
                    id,
                    descriptor: Some(descriptor.into()),
                    applied: applied.get(),
                    beside: beside.map(Into::into),
                })
            }
            PeerMessage::SnapshotChunk { id, group, sequence, rows, last } => {
                K::SnapshotChunk(p::SnapshotChunk {
                    id,
                    group: group.get(),
                    sequence,
                    rows: each(rows),
                    last,
                })
            }
            PeerMessage::SnapshotReply { id, verdict } => {
                K::SnapshotReply(p::SnapshotReply { id, verdict: Some(verdict.into()) })
            }
        };
        proto::PeerMessage { kind: Some(kind) }
    }
}

impl TryFrom<proto::PeerMessage> for PeerMessage {
    type Error = WireError;
    fn try_from(message: proto::PeerMessage) -> Result<Self, WireError> {
        use p::Kind as K;
        Ok(match need(message.kind, "peer_message.kind")? {
            K::Paxos(envelope) => PeerMessage::Paxos(Envelope::try_from(envelope)?),
            K::Call(c) => PeerMessage::Call {
                id: c.id,
                group: GroupId::new(c.group),
                request: need(c.request, "call.request")?.try_into()?,
            },
            K::Answer(a) => PeerMessage::Answer {
                id: a.id,
                result: match need(a.result, "answer.result")? {
                    p::answer::Result::Response(response) => Ok(response.try_into()?),
                    p::answer::Result::Error(error) => Err(error.try_into()?),
                },
            },
            K::Cancel(id) => PeerMessage::Cancel { id },
            K::Closed(c) => PeerMessage::Closed(all(c.groups)?),
            K::Beat(b) => PeerMessage::Beat(b.try_into()?),
            K::BeatAnswer(a) => PeerMessage::BeatAnswer(a.into()),
            K::NotMember(m) => {
                PeerMessage::NotMember { group: GroupId::new(m.group), generation: m.generation }
            }
            K::UnknownGroup(group) => PeerMessage::UnknownGroup { group: GroupId::new(group) },
            K::SnapshotOffer(o) => PeerMessage::SnapshotOffer {
                id: o.id,
                descriptor: need(o.descriptor, "snapshot_offer.descriptor")?.try_into()?,
                applied: Slot::new(o.applied),
                beside: o.beside.map(SnapshotBeside::try_from).transpose()?,
            },
            K::SnapshotChunk(c) => PeerMessage::SnapshotChunk {
                id: c.id,
                group: GroupId::new(c.group),
                sequence: c.sequence,
                rows: each(c.rows),
                last: c.last,
            },
            K::SnapshotReply(r) => PeerMessage::SnapshotReply {
                id: r.id,
                verdict: need(r.verdict, "snapshot_reply.verdict")?.into(),
            },
        })
    }
}
