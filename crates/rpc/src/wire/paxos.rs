//! The replication protocol.

use meridian_paxos::{Command, Envelope, LeaseGrant, LeaseRequest, LogEntry, Message};
use meridian_types::{Duration, GroupId, NodeId, Slot, Timestamp};

use super::proto::paxos_message as p;
use super::{WireError, all, each, need, proto};

impl From<LogEntry> for proto::LogEntry {
    fn from(e: LogEntry) -> Self {
        use proto::log_entry::Command as C;
        let command = match e.command {
            Command::Noop => C::Noop(proto::Empty {}),
            Command::Normal(bytes) => C::Normal(bytes),
            Command::Membership(m) => C::Membership(m.into()),
        };
        proto::LogEntry { slot: e.slot.get(), ballot: Some(e.ballot.into()), command: Some(command) }
    }
}

impl TryFrom<proto::LogEntry> for LogEntry {
    type Error = WireError;
    fn try_from(e: proto::LogEntry) -> Result<Self, WireError> {
        use proto::log_entry::Command as C;
        let command = match need(e.command, "log_entry.command")? {
            C::Noop(_) => Command::Noop,
            C::Normal(bytes) => Command::Normal(bytes),
            C::Membership(m) => Command::Membership(m.try_into()?),
        };
        let ballot = need(e.ballot, "log_entry.ballot")?.into();
        Ok(LogEntry { slot: Slot::new(e.slot), ballot, command })
    }
}

impl From<LeaseRequest> for proto::Lease {
    fn from(l: LeaseRequest) -> Self {
        proto::Lease { leader_earliest: l.leader_earliest.as_nanos(), length_ns: l.length.as_nanos() }
    }
}

impl From<proto::Lease> for LeaseRequest {
    fn from(l: proto::Lease) -> Self {
        LeaseRequest {
            leader_earliest: Timestamp::from_nanos(l.leader_earliest),
            length: Duration::from_nanos(l.length_ns),
        }
    }
}

impl From<LeaseGrant> for proto::Lease {
    fn from(l: LeaseGrant) -> Self {
        proto::Lease { leader_earliest: l.leader_earliest.as_nanos(), length_ns: l.length.as_nanos() }
    }
}

impl From<proto::Lease> for LeaseGrant {
    fn from(l: proto::Lease) -> Self {
        LeaseGrant {
            leader_earliest: Timestamp::from_nanos(l.leader_earliest),
            length: Duration::from_nanos(l.length_ns),
        }
    }
}

impl From<Message> for proto::PaxosMessage {
    fn from(m: Message) -> Self {
        use p::Kind as K;
        let kind = match m {
            Message::Prepare { ballot, from_slot, lease } => K::Prepare(p::Prepare {
                ballot: Some(ballot.into()),
                from_slot: from_slot.get(),
                lease: Some(lease.into()),
            }),
            Message::Promise { ballot, accepted, chosen, lease } => K::Promise(p::Promise {
                ballot: Some(ballot.into()),
                accepted: each(accepted),
                chosen: chosen.get(),
                lease: lease.map(Into::into),
            }),
            Message::Refuse { ballot, promised, leader } => K::Refuse(p::Refuse {
                ballot: Some(ballot.into()),
                promised: Some(promised.into()),
                leader: leader.map(NodeId::get),
            }),
            Message::Accept { ballot, entries, commit, lease } => K::Accept(p::Accept {
                ballot: Some(ballot.into()),
                entries: each(entries),
                commit: commit.get(),
                lease: lease.map(Into::into),
            }),
            Message::Accepted { ballot, slots, chosen, lease } => K::Accepted(p::Accepted {
                ballot: Some(ballot.into()),
                slots: slots.map(|(first, last)| p::SlotRange { first: first.get(), last: last.get() }),
                chosen: chosen.get(),
                lease: lease.map(Into::into),
            }),
            Message::CatchUp { from_slot } => K::CatchUp(p::CatchUp { from_slot: from_slot.get() }),
            Message::Learn { entries, chosen } => {
                K::Learn(p::Learn { entries: each(entries), chosen: chosen.get() })
            }
            Message::NeedSnapshot { truncated } => {
                K::NeedSnapshot(p::NeedSnapshot { truncated: truncated.get() })
            }
            Message::Known { through } => K::Known(p::Known { through: through.get() }),
            Message::Settled { through } => K::Settled(p::Settled { through: through.get() }),
            Message::HandOver { ballot, floor, commit } => K::HandOver(p::HandOver {
                ballot: Some(ballot.into()),
                floor: floor.as_nanos(),
                commit: commit.get(),
            }),
            Message::ReleaseVote { ballot, successor } => {
                K::ReleaseVote(p::ReleaseVote { ballot: Some(ballot.into()), successor: successor.get() })
            }
        };
        proto::PaxosMessage { kind: Some(kind) }
    }
}

fn slot_range(range: p::SlotRange) -> Result<(Slot, Slot), WireError> {
    if range.first > range.last {
        return Err(WireError::OutOfRange { field: "accepted.slots" });
    }
    Ok((Slot::new(range.first), Slot::new(range.last)))
}

impl TryFrom<proto::PaxosMessage> for Message {
    type Error = WireError;
    fn try_from(m: proto::PaxosMessage) -> Result<Self, WireError> {
        use p::Kind as K;
        Ok(match need(m.kind, "paxos_message.kind")? {
            K::Prepare(m) => Message::Prepare {
                ballot: need(m.ballot, "prepare.ballot")?.into(),
                from_slot: Slot::new(m.from_slot),
                lease: need(m.lease, "prepare.lease")?.into(),
            },
            K::Promise(m) => Message::Promise {
                ballot: need(m.ballot, "promise.ballot")?.into(),
                accepted: all(m.accepted)?,
                chosen: Slot::new(m.chosen),
                lease: m.lease.map(Into::into),
            },
            K::Refuse(m) => Message::Refuse {
                ballot: need(m.ballot, "refuse.ballot")?.into(),
                promised: need(m.promised, "refuse.promised")?.into(),
                leader: m.leader.map(NodeId::new),
            },
            K::Accept(m) => Message::Accept {
                ballot: need(m.ballot, "accept.ballot")?.into(),
                entries: all(m.entries)?,
                commit: Slot::new(m.commit),
                lease: m.lease.map(Into::into),
            },
            K::Accepted(m) => Message::Accepted {
                ballot: need(m.ballot, "accepted.ballot")?.into(),
                slots: m.slots.map(slot_range).transpose()?,
                chosen: Slot::new(m.chosen),
                lease: m.lease.map(Into::into),
            },
            K::CatchUp(m) => Message::CatchUp { from_slot: Slot::new(m.from_slot) },
            K::Learn(m) => Message::Learn { entries: all(m.entries)?, chosen: Slot::new(m.chosen) },
            K::NeedSnapshot(m) => Message::NeedSnapshot { truncated: Slot::new(m.truncated) },
            K::Known(m) => Message::Known { through: Slot::new(m.through) },
            K::Settled(m) => Message::Settled { through: Slot::new(m.through) },
            K::HandOver(m) => Message::HandOver {
                ballot: need(m.ballot, "hand_over.ballot")?.into(),
                floor: Timestamp::from_nanos(m.floor),
                commit: Slot::new(m.commit),
            },
            K::ReleaseVote(m) => Message::ReleaseVote {
                ballot: need(m.ballot, "release_vote.ballot")?.into(),
                successor: NodeId::new(m.successor),
            },
        })
    }
}

impl From<Envelope> for proto::Envelope {
    fn from(e: Envelope) -> Self {
        proto::Envelope {
            group: e.group.get(),
            from: e.from.get(),
            to: e.to.get(),
            message: Some(e.message.into()),
        }
    }
}

impl TryFrom<proto::Envelope> for Envelope {
    type Error = WireError;
    fn try_from(e: proto::Envelope) -> Result<Self, WireError> {
        Ok(Envelope {
            group: GroupId::new(e.group),
            from: NodeId::new(e.from),
            to: NodeId::new(e.to),
            message: need(e.message, "envelope.message")?.try_into()?,
        })
    }
}
