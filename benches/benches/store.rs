//! Below SQL: key encoding, versioned reads, the lock table, one Paxos slot through three replicas.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use meridian_keys::{Direction, IndexId, KeyBuilder, TableId};
use meridian_locks::{LockTable, Mode};
use meridian_mvcc::ScanOptions;
use meridian_paxos::{Command, Config, Input, MemberKind, Membership, Now, Outputs, Recovered, Replica};
use meridian_storage::{Durability, Engine, MemoryEngine, WriteBatch};
use meridian_types::{GroupId, Key, NodeId, Slot, Span, Timestamp, TtInterval, TxnId};

fn row_key(id: i64) -> Key {
    let mut key = KeyBuilder::index(TableId::new(104), IndexId::new(1));
    key.push_int(id, Direction::Ascending);
    key.finish()
}

fn keys(c: &mut Criterion) {
    c.bench_function("key: table, index and one bigint", |b| {
        let mut id = 0;
        b.iter(|| {
            id += 1;
            row_key(black_box(id))
        });
    });
    c.bench_function("key: composite of bigint and text", |b| {
        b.iter(|| {
            let mut key = KeyBuilder::index(TableId::new(104), IndexId::new(2));
            key.push_int(black_box(77_777), Direction::Ascending);
            key.push_bytes(black_box(b"a moderately long name"), Direction::Descending);
            key.finish()
        });
    });
}

const ROWS: i64 = 10_000;

fn filled_engine() -> MemoryEngine {
    let engine = MemoryEngine::new();
    for id in 0..ROWS {
        let mut batch = WriteBatch::new();
        for version in 1..=3 {
            let at = Timestamp::from_nanos(version * 1_000);
            meridian_mvcc::put_version(&mut batch, row_key(id).as_bytes(), at, &[7; 100]);
        }
        engine.write(batch, Durability::Buffered).unwrap();
    }
    engine
}

fn mvcc(c: &mut Criterion) {
    let engine = filled_engine();
    let at = Timestamp::from_nanos(2_500);
    c.bench_function("mvcc: point read of the middle of three versions", |b| {
        let mut id = 0;
        b.iter(|| {
            id = (id + 7_919) % ROWS;
            meridian_mvcc::get(&engine, row_key(id).as_bytes(), at).unwrap().unwrap()
        });
    });
    c.bench_function("mvcc: scan of 1,000 rows with three versions each", |b| {
        let span = Span::new(row_key(2_000), Some(row_key(3_000)));
        let options =
            ScanOptions { span: &span, at, reverse: false, limit_rows: usize::MAX, limit_bytes: usize::MAX };
        b.iter(|| {
            let page = meridian_mvcc::scan(&engine, &options).unwrap();
            assert_eq!(page.rows.len(), 1_000);
        });
    });
}

fn locks(c: &mut Criterion) {
    c.bench_function("locks: four exclusive point locks, then release", |b| {
        let keys: Vec<Key> = (0..4).map(row_key).collect();
        let mut seq = 0;
        let mut table = LockTable::new();
        let mut events = Vec::new();
        b.iter(|| {
            seq += 1;
            let txn = TxnId { first_start: Timestamp::from_nanos(seq), node: NodeId::new(1), seq };
            for key in &keys {
                assert!(table.try_point(txn, key, Mode::Exclusive));
            }
            table.release(txn, &mut events);
            events.clear();
        });
    });
}

/// Three replicas whose messages and writes arrive at once.
struct Group {
    replicas: Vec<Replica>,
    outputs: Outputs,
}

const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

fn now() -> Now {
    Now { mono: NOW, tt: Some(TtInterval::exact(NOW)) }
}

impl Group {
    fn led_by_first() -> Group {
        let nodes = [1, 2, 3].map(NodeId::new);
        let membership = Membership { members: nodes.iter().map(|n| (*n, MemberKind::Voter)).collect() };
        let replica = |node: &NodeId| {
            let recovered = Recovered {
                hard: Default::default(),
                truncated: Slot::ZERO,
                entries: Vec::new(),
                membership: membership.clone(),
                applied: Slot::ZERO,
            };
            Replica::new(Config::new(GroupId::new(1), *node, 7), recovered, now())
        };
        let mut group = Group { replicas: nodes.iter().map(replica).collect(), outputs: Outputs::default() };
        group.step(0, Input::Campaign);
        assert!(group.replicas[0].leadership(now()).is_some(), "no leader");
        group
    }

    /// Steps one replica, and all that follows from it. Returns how many entries the first replica has applied.
    fn step(&mut self, at: usize, input: Input) -> usize {
        let mut queue = vec![(at, input)];
        let mut applied = 0;
        while let Some((at, input)) = queue.pop() {
            self.replicas[at].step(input, now(), &mut self.outputs);
            let out = std::mem::take(&mut self.outputs);
            for envelope in out.send_after_persist.into_iter().chain(out.send) {
                let to = envelope.to.get() as usize - 1;
                queue.push((to, Input::Receive { from: envelope.from, message: envelope.message }));
            }
            if !out.persist.is_empty() {
                queue.push((at, Input::Persisted(out.token)));
            }
            if let Some(last) = out.chosen.last() {
                queue.push((at, Input::Applied(last.slot)));
                applied += if at == 0 { out.chosen.len() } else { 0 };
            }
        }
        applied
    }
}

fn paxos(c: &mut Criterion) {
    let command = Command::Normal(Bytes::from(vec![7; 200]));
    c.bench_function("paxos: one command through three replicas", |b| {
        b.iter_batched_ref(
            Group::led_by_first,
            |group| assert_eq!(group.step(0, Input::Propose(vec![command.clone()])), 1),
            BatchSize::NumIterations(1_000),
        );
    });
}

criterion_group!(benches, keys, mvcc, locks, paxos);
criterion_main!(benches);
