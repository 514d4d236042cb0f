use meridian_paxos::MemberKind;
use meridian_types::NodeId;

use super::*;
use crate::ShardDescriptor;

fn txn() -> TxnId {
    TxnId { first_start: Timestamp::from_nanos(3), node: NodeId::new(4), seq: 300 }
}

fn key(text: &str) -> Key {
    Key::copy_from(text.as_bytes())
}

fn at(n: u64) -> Timestamp {
    Timestamp::from_nanos(n)
}

fn writes() -> Vec<Write> {
    let put = Write { key: key("a"), value: Some(Bytes::from_static(b"xy")) };
    vec![put, Write { key: key("b"), value: None }]
}

const ORIGIN: Ballot = Ballot::new(7, NodeId::new(2));
const TXN: &[u8] = b"\0\0\0\0\0\0\0\x03\x04\xac\x02";
const WRITES: &[u8] = b"\x02\x01a\x01\x02xy\x01b\x00";

fn commands() -> Vec<(Command, Vec<u8>)> {
    let span = Span::new(key("a"), Some(key("c")));
    let record = PrepareRecord {
        txn: txn(),
        prepare_ts: at(7),
        max_ts: at(9),
        coordinator: key("k"),
        writes: writes(),
        staged_chunks: 2,
    };
    let t = |n: u8| [0, 0, 0, 0, 0, 0, 0, n];
    vec![
        (
            Command::Commit { txn: txn(), s: at(7), writes: writes(), staged_chunks: 0 },
            [b"\x01\x07\x02\x01", TXN, &t(7), b"\x00", WRITES].concat(),
        ),
        (
            Command::Stage { txn: txn(), chunk: 1, staged: StagedChunk { lock: span, writes: writes() } },
            [b"\x01\x07\x02\x02", TXN, b"\x01\x01a\x01\x01c", WRITES].concat(),
        ),
        (Command::Prepare(record), [b"\x01\x07\x02\x03", TXN, &t(7), &t(9), b"\x01k\x02", WRITES].concat()),
        (
            Command::Decide {
                txn: txn(),
                s: at(7),
                writes: vec![],
                staged_chunks: 0,
                participants: vec![key("p")],
            },
            [b"\x01\x07\x02\x04", TXN, &t(7), b"\x00\x01\x01p\x00"].concat(),
        ),
        (Command::Fill { at: at(7), writes: writes() }, [b"\x01\x07\x02\x0c", &t(7)[..], WRITES].concat()),
        (
            Command::Resolve { txn: txn(), outcome: Outcome::Committed(at(7)) },
            [b"\x01\x07\x02\x05", TXN, b"\x01", &t(7)].concat(),
        ),
        (
            Command::Resolve { txn: txn(), outcome: Outcome::Aborted },
            [b"\x01\x07\x02\x05", TXN, b"\x02"].concat(),
        ),
        (Command::AbortRecord { txn: txn(), at: at(7) }, [b"\x01\x07\x02\x06", TXN, &t(7)].concat()),
        (Command::Collect { horizon: at(7) }, [&b"\x01\x07\x02\x0b"[..], &t(7)].concat()),
        (Command::Lead, b"\x01\x07\x02\x0a".to_vec()),
        (Command::Forget { txn: txn() }, [b"\x01\x07\x02\x07", TXN].concat()),
        (Command::Rollback { txn: txn() }, [b"\x01\x07\x02\x08", TXN].concat()),
        (
            Command::Split { at: key("m"), new_group: GroupId::new(5), floor: at(7) },
            [b"\x01\x07\x02\x09\x01m\x05", &t(7)[..]].concat(),
        ),
    ]
}

#[test]
fn golden_bytes() {
    for (command, bytes) in commands() {
        assert_eq!(command.encode(ORIGIN)[..], bytes, "{command:?}");
        assert_eq!(Command::decode(bytes.into()), Ok((ORIGIN, command)));
    }
}

#[test]
fn damaged_commands_are_refused() {
    for (command, bytes) in commands() {
        for cut in 0..bytes.len() {
            let prefix = Bytes::copy_from_slice(&bytes[..cut]);
            assert!(Command::decode(prefix).is_err(), "{command:?} cut at {cut}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert_eq!(Command::decode(longer.into()), Err(CodecError::Trailing(1)));
    }
    assert_eq!(Command::decode(Bytes::from_static(b"\x02\x01")), Err(CodecError::Tag(2)));
    assert_eq!(Command::decode(Bytes::from_static(b"\x01\x07\x02\x63")), Err(CodecError::Tag(0x63)));
}

#[test]
fn records_round_trip() {
    let chunk = StagedChunk { lock: Span::ALL, writes: writes() };
    assert_eq!(StagedChunk::decode(chunk.encode()), Ok(chunk));
    let outcome = OutcomeRecord {
        txn: txn(),
        outcome: Outcome::Committed(at(1)),
        participants: vec![key("p"), key("q")],
    };
    assert_eq!(OutcomeRecord::decode(outcome.encode()), Ok(outcome));
    let descriptor = ShardDescriptor {
        group: GroupId::new(7),
        span: Span::new(key("a"), None),
        generation: 3,
        replicas: vec![(NodeId::new(1), MemberKind::Voter), (NodeId::new(2), MemberKind::Witness)],
    };
    assert_eq!(descriptor.encode()[..], *b"\x01\x07\x01a\x00\x03\x02\x01\x01\x02\x03");
    assert_eq!(ShardDescriptor::decode(descriptor.encode()), Ok(descriptor));
}
