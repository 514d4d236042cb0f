//! Every variant survives the way over the wire, and what is malformed is refused.

use bytes::Bytes;
use meridian_paxos::*;
use meridian_shard::beats::{Beat, BeatAnswer, Join};
use meridian_shard::*;
use meridian_types::*;
use prost::Message as _;

use super::*;
use crate::peer::{GroupClosed, PeerMessage, SnapshotBeside, SnapshotPart, SnapshotRow, SnapshotVerdict};

fn ts(n: u64) -> Timestamp {
    Timestamp::from_nanos(n)
}

fn key(s: &str) -> Key {
    Key::copy_from(s.as_bytes())
}

fn ballot() -> Ballot {
    Ballot::new(7, NodeId::new(3))
}

fn txn_id() -> TxnId {
    TxnId { first_start: ts(u64::MAX - 1), node: NodeId::new(2), seq: 99 }
}

fn registration() -> Registration {
    Registration { ballot: ballot(), number: 5 }
}

fn txn_ref() -> TxnRef {
    TxnRef { id: txn_id(), registration: Some(registration()) }
}

fn writes() -> Vec<Write> {
    vec![
        Write { key: key("a"), value: Some(Bytes::from_static(b"1")) },
        Write { key: key("b"), value: None },
        Write { key: key("c"), value: Some(Bytes::new()) },
    ]
}

fn descriptor() -> ShardDescriptor {
    ShardDescriptor {
        group: GroupId::new(4),
        span: Span::new(key("a"), Some(key(""))),
        generation: 3,
        replicas: vec![
            (NodeId::new(1), MemberKind::Voter),
            (NodeId::new(2), MemberKind::ReadOnly),
            (NodeId::new(5), MemberKind::Witness),
        ],
    }
}

fn entries() -> Vec<LogEntry> {
    let members = Membership { members: descriptor().replicas };
    [Command::Noop, Command::Normal(Bytes::from_static(b"x")), Command::Membership(members)]
        .into_iter()
        .enumerate()
        .map(|(i, command)| LogEntry { slot: Slot::new(i as u64 + 1), ballot: ballot(), command })
        .collect()
}

fn paxos_messages() -> Vec<Message> {
    let lease = LeaseRequest { leader_earliest: ts(5), length: Duration::from_secs(3) };
    let grant = LeaseGrant { leader_earliest: ts(5), length: Duration::from_secs(3) };
    let s = Slot::new;
    vec![
        Message::Prepare { ballot: ballot(), from_slot: s(1), lease },
        Message::Promise { ballot: ballot(), accepted: entries(), chosen: s(9), lease: Some(grant) },
        Message::Promise { ballot: ballot(), accepted: vec![], chosen: s(0), lease: None },
        Message::Refuse { ballot: ballot(), promised: Ballot::ZERO, leader: Some(NodeId::new(1)) },
        Message::Refuse { ballot: ballot(), promised: ballot(), leader: None },
        Message::Accept { ballot: ballot(), entries: entries(), commit: s(2), lease: Some(lease) },
        Message::Accept { ballot: ballot(), entries: vec![], commit: s(2), lease: None },
        Message::Accepted { ballot: ballot(), slots: Some((s(1), s(3))), chosen: s(0), lease: Some(grant) },
        Message::Accepted { ballot: ballot(), slots: None, chosen: s(0), lease: None },
        Message::CatchUp { from_slot: s(u64::MAX) },
        Message::Learn { entries: entries(), chosen: s(3) },
        Message::NeedSnapshot { truncated: s(12) },
        Message::Settled { through: s(12) },
        Message::Known { through: s(12) },
        Message::HandOver { ballot: ballot(), floor: ts(8), commit: s(3) },
        Message::ReleaseVote { ballot: ballot(), successor: NodeId::new(2) },
    ]
}

fn requests() -> Vec<Request> {
    let scan = ReadOp::Scan { span: Span::ALL, reverse: true, limit_rows: 10, limit_bytes: usize::MAX };
    let locking = |mode, wait| ReadMode::Locking { txn: txn_ref(), mode, wait };
    let read = |mode| Request::Read { mode, ops: vec![ReadOp::Get(key("k")), scan.clone()] };
    vec![
        read(ReadMode::Strong),
        read(ReadMode::At(ts(77))),
        read(locking(LockMode::Shared, WaitPolicy::Wait)),
        read(locking(LockMode::Exclusive, WaitPolicy::NoWait)),
        read(locking(LockMode::Exclusive, WaitPolicy::SkipLocked)),
        Request::Stage { txn: txn_ref(), chunk: 2, lock: Span::point(&key("z")), writes: writes() },
        Request::Commit { txn: txn_ref(), writes: writes(), staged_chunks: 1, max_ts: Timestamp::MAX },
        Request::Prepare {
            txn: TxnRef { id: txn_id(), registration: None },
            writes: writes(),
            staged_chunks: 0,
            coordinator: key("c"),
            max_ts: ts(3),
        },
        Request::Decide {
            txn: txn_ref(),
            writes: vec![],
            staged_chunks: 0,
            window: Vote { prepare_ts: ts(1), max_ts: ts(2) },
            participants: vec![key("p"), key("")],
        },
        Request::Resolve { id: txn_id(), outcome: Outcome::Committed(ts(4)), key: None },
        Request::Resolve { id: txn_id(), outcome: Outcome::Aborted, key: Some(Key::copy_from(b"k")) },
        Request::Forget { id: txn_id(), key: Key::copy_from(b"k") },
        Request::Rollback { id: txn_id() },
        Request::CancelWaits { id: txn_id() },
        Request::EndReads { txn: txn_ref() },
        Request::Heartbeat { ids: vec![txn_id(), txn_id()] },
        Request::QueryOutcome { id: txn_id(), key: key("k"), abort_unknown: true },
        Request::CloseTimestamp { at: ts(6) },
        Request::Split { at: key("m"), new_group: GroupId::new(8) },
        Request::ChangeReplica { node: NodeId::new(3), kind: None },
        Request::ChangeReplica { node: NodeId::new(3), kind: Some(MemberKind::ReadOnly) },
        Request::TransferLeader { to: NodeId::new(3) },
        Request::Fill {
            at: Timestamp::from_nanos(5),
            until: Timestamp::from_nanos(9),
            writes: vec![Write { key: key("a"), value: Some(Bytes::from_static(b"v")) }],
        },
    ]
}

fn responses() -> Vec<Response> {
    let rows = vec![(key("k"), Bytes::from_static(b"v"))];
    vec![
        Response::Read {
            results: vec![
                ReadResult::Value(None),
                ReadResult::Value(Some(Bytes::new())),
                ReadResult::Rows { rows, resume: Some(Span::ALL) },
                ReadResult::Rows { rows: vec![], resume: None },
            ],
            read_ts: ts(9),
            registration: Some(registration()),
        },
        Response::Read { results: vec![], read_ts: ts(0), registration: None },
        Response::Staged { registration: registration() },
        Response::Committed { commit_ts: ts(5) },
        Response::Voted(Vote { prepare_ts: ts(1), max_ts: Timestamp::MAX }),
        Response::Outcome(None),
        Response::Outcome(Some(Outcome::Aborted)),
        Response::Outcome(Some(Outcome::Committed(ts(1)))),
        Response::Closed { closed: ts(4), through: Slot::new(3) },
        Response::Split { left: descriptor(), right: descriptor() },
        Response::Changed { descriptor: descriptor() },
        Response::Done,
    ]
}

fn errors() -> Vec<ShardError> {
    let group = GroupId::new(3);
    let aborted = |reason| ShardError::Aborted { reason };
    vec![
        ShardError::NotLeader { group, leader: Some(NodeId::new(2)) },
        ShardError::NotLeader { group, leader: None },
        ShardError::WrongShard { descriptor: descriptor() },
        ShardError::UnknownGroup { group },
        aborted(AbortReason::Wounded { by: txn_id() }),
        aborted(AbortReason::LocksLost),
        aborted(AbortReason::WouldDeadlock),
        aborted(AbortReason::NoTimestamp),
        aborted(AbortReason::ByRecovery),
        ShardError::WouldBlock,
        ShardError::LockTimeout,
        ShardError::AlreadyDecided { outcome: Outcome::Aborted },
        ShardError::OutcomeUnknown,
        ShardError::BelowHorizon { at: ts(1), horizon: ts(2) },
        ShardError::Overloaded,
        ShardError::UnsoundChange,
        ShardError::InFuture { at: ts(1) },
        ShardError::Unfit { reason: UnfitReason::Clock },
        ShardError::Unfit { reason: UnfitReason::Disk },
    ]
}

fn peer_messages() -> Vec<PeerMessage> {
    let closed = ClosedTimestamp { ballot: ballot(), closed: ts(3), through: Slot::new(4) };
    let row = SnapshotRow { family: 3, key: Bytes::from_static(b"k"), value: Bytes::new() };
    let reply = |verdict| PeerMessage::SnapshotReply { id: 4, verdict };
    let envelope =
        |message| Envelope { group: GroupId::new(1), from: NodeId::new(1), to: NodeId::new(2), message };
    let group = GroupId::new(6);
    let mut all = vec![
        PeerMessage::Cancel { id: u64::MAX },
        PeerMessage::Closed(vec![]),
        PeerMessage::Closed(vec![GroupClosed { group, closed }]),
        PeerMessage::Beat(Beat::default()),
        PeerMessage::Beat(Beat {
            stream: u64::MAX,
            sequence: 3,
            lease: Some(LeaseRequest { leader_earliest: ts(5), length: Duration::from_secs(3) }),
            closed: Some(ts(4)),
            leaves: vec![group],
            joins: vec![Join { group, ballot: ballot(), through: Slot::new(8) }],
        }),
        PeerMessage::BeatAnswer(BeatAnswer {
            stream: 1,
            sequence: 3,
            in_step: true,
            lease: Some(LeaseGrant { leader_earliest: ts(5), length: Duration::from_secs(3) }),
            left: vec![group],
        }),
        PeerMessage::UnknownGroup { group },
        PeerMessage::NotMember { group, generation: 4 },
        PeerMessage::SnapshotOffer { id: 1, descriptor: descriptor(), applied: Slot::new(9), beside: None },
        PeerMessage::SnapshotOffer {
            id: 1,
            descriptor: descriptor(),
            applied: Slot::new(9),
            beside: Some(SnapshotBeside {
                span: Span::ALL,
                parts: vec![SnapshotPart { descriptor: descriptor(), applied: Slot::ZERO }],
            }),
        },
        PeerMessage::SnapshotChunk { id: 1, group, sequence: 2, rows: vec![row], last: true },
        reply(SnapshotVerdict::Received(3)),
        reply(SnapshotVerdict::Refused),
        reply(SnapshotVerdict::Installed),
        reply(SnapshotVerdict::Narrows(Span::point(&key("z")))),
    ];
    all.extend(paxos_messages().into_iter().map(|m| PeerMessage::Paxos(envelope(m))));
    all.extend(requests().into_iter().map(|request| PeerMessage::Call { id: 5, group, request }));
    all.extend(responses().into_iter().map(|r| PeerMessage::Answer { id: 5, result: Ok(r) }));
    all.extend(errors().into_iter().map(|e| PeerMessage::Answer { id: 5, result: Err(e) }));
    all
}

#[test]
fn every_message_survives_the_wire() {
    for message in peer_messages() {
        let bytes = proto::PeerMessage::from(message.clone()).encode_to_vec();
        let decoded = proto::PeerMessage::decode(&bytes[..]).unwrap();
        assert_eq!(PeerMessage::try_from(decoded), Ok(message));
    }
}

/// Cutting or corrupting any byte of a valid frame yields an error or another message, never a panic.
#[test]
fn malformed_bytes_are_refused_without_a_panic() {
    let mut refused = 0;
    for message in peer_messages() {
        let bytes = proto::PeerMessage::from(message).encode_to_vec();
        for at in 0..bytes.len() {
            let mut corrupt = bytes.clone();
            corrupt[at] ^= 0x55;
            for candidate in [&bytes[..at], &corrupt[..]] {
                let outcome = proto::PeerMessage::decode(candidate).map(PeerMessage::try_from);
                refused += usize::from(!matches!(outcome, Ok(Ok(_))));
            }
        }
    }
    assert!(refused > 100, "only {refused} malformed messages were refused");
}

#[test]
fn missing_and_senseless_fields_are_named() {
    use proto::peer_message::Kind;
    let wire = |kind| PeerMessage::try_from(proto::PeerMessage { kind });
    let mut shuffled = proto::ShardDescriptor::from(descriptor());
    shuffled.replicas.reverse();
    let accepted = proto::paxos_message::Accepted {
        ballot: Some(ballot().into()),
        slots: Some(proto::paxos_message::SlotRange { first: 2, last: 1 }),
        chosen: 0,
        lease: None,
    };
    let paxos = proto::Envelope {
        message: Some(proto::PaxosMessage { kind: Some(proto::paxos_message::Kind::Accepted(accepted)) }),
        ..Default::default()
    };
    let offer = proto::peer_message::SnapshotOffer { descriptor: Some(shuffled), ..Default::default() };
    let table = [
        (None, WireError::Missing { field: "peer_message.kind" }),
        (Some(Kind::Paxos(proto::Envelope::default())), WireError::Missing { field: "envelope.message" }),
        (Some(Kind::Paxos(paxos)), WireError::OutOfRange { field: "accepted.slots" }),
        (Some(Kind::SnapshotOffer(offer)), WireError::OutOfRange { field: "descriptor.replicas" }),
        (Some(Kind::Call(Default::default())), WireError::Missing { field: "call.request" }),
        (Some(Kind::Answer(Default::default())), WireError::Missing { field: "answer.result" }),
    ];
    for (kind, error) in table {
        assert_eq!(wire(kind), Err(error));
    }
}
