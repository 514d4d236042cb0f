//! A transaction over several shards sees what a plain map would show it.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_kv_api::{KvTxn, KvWrite, Locking, Savepoint, ScanRequest};
use meridian_types::{Key, Span};
use proptest::prelude::*;

use super::fake::*;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8),
    Delete(u8),
    Get(u8),
    MultiGet(Vec<u8>),
    Scan { start: u8, end: Option<u8>, reverse: bool, limit: usize },
    Mark,
    RollBack(usize),
    Commit,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..26u8;
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Op::Put(k, v)),
        2 => key.clone().prop_map(Op::Delete),
        1 => key.clone().prop_map(Op::Get),
        1 => prop::collection::vec(key.clone(), 0..6).prop_map(Op::MultiGet),
        3 => (key.clone(), prop::option::of(key), any::<bool>(), 1..5usize)
            .prop_map(|(start, end, reverse, limit)| Op::Scan { start, end, reverse, limit }),
        1 => Just(Op::Mark),
        1 => (0..4usize).prop_map(Op::RollBack),
        1 => Just(Op::Commit),
    ]
}

fn key(i: u8) -> Key {
    Key::copy_from(&[b'a' + i])
}

type Model = BTreeMap<Key, Bytes>;

async fn scan_all(txn: &dyn KvTxn, span: Span, reverse: bool, limit: usize) -> Vec<(Key, Bytes)> {
    let mut rows = Vec::new();
    let mut rest = Some(span);
    while let Some(span) = rest {
        let page = txn.scan(ScanRequest { span, reverse, limit, locking: Locking::SHARED }).await.unwrap();
        assert!(page.rows.len() <= limit, "a page beyond its limit");
        rows.extend(page.rows);
        rest = page.resume;
    }
    rows
}

async fn run(ops: Vec<Op>) {
    let (_fake, gateway) = warm_cluster().await;
    let mut model = Model::new();
    let mut txn = begin(&gateway);
    let mut marks: Vec<(Savepoint, Model)> = Vec::new();
    for op in ops {
        match op {
            Op::Put(i, value) => {
                let value = Bytes::copy_from_slice(&[value]);
                model.insert(key(i), value.clone());
                txn.write(vec![KvWrite { key: key(i), value: Some(value) }]).await.unwrap();
            }
            Op::Delete(i) => {
                model.remove(&key(i));
                txn.write(vec![KvWrite { key: key(i), value: None }]).await.unwrap();
            }
            Op::Get(i) => {
                assert_eq!(txn.get(key(i), Locking::SHARED).await.unwrap(), model.get(&key(i)).cloned());
            }
            Op::MultiGet(keys) => {
                let keys: Vec<Key> = keys.into_iter().map(key).collect();
                let expected: Vec<_> = keys.iter().map(|k| model.get(k).cloned()).collect();
                assert_eq!(txn.multi_get(keys, Locking::SHARED).await.unwrap(), expected);
            }
            Op::Scan { start, end, reverse, limit } => {
                let span = Span::new(key(start), end.map(key));
                let inside = model.iter().filter(|(k, _)| span.contains(k.as_bytes()));
                let mut expected: Vec<_> = inside.map(|(k, v)| (k.clone(), v.clone())).collect();
                if reverse {
                    expected.reverse();
                }
                assert_eq!(scan_all(&*txn, span, reverse, limit).await, expected);
            }
            Op::Mark => marks.push((txn.savepoint(), model.clone())),
            Op::RollBack(i) => {
                if i < marks.len() {
                    marks.truncate(i + 1);
                    let (mark, then) = &marks[i];
                    txn.rollback_to(*mark).await.unwrap();
                    model = then.clone();
                }
            }
            Op::Commit => {
                txn.commit().await.unwrap();
                // Participants learn of the commit in the background, and here hold no locks that a reader would
                // wait for.
                settle().await;
                txn = begin(&gateway);
                marks.clear();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_transaction_sees_its_writes_over_the_stored_rows(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(ops));
    }
}
