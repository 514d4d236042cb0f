use std::sync::Arc;

use super::*;
use crate::{Cluster, KvWrite, LockWait, Locking, ReadBound, ReadLock, RetryReason, ScanRequest};

fn k(s: &str) -> Key {
    Key::copy_from(s.as_bytes())
}

fn v(s: &str) -> Bytes {
    Bytes::copy_from_slice(s.as_bytes())
}

fn put(key: &str, value: &str) -> Vec<KvWrite> {
    vec![KvWrite { key: k(key), value: Some(v(value)) }]
}

fn span(a: &str, b: &str) -> Span {
    Span::new(k(a), Some(k(b)))
}

fn scan(span: Span, reverse: bool, limit: usize) -> ScanRequest {
    ScanRequest { span, reverse, limit, locking: Locking::SHARED }
}

fn store() -> MemoryKv {
    MemoryKv::manual(Timestamp::from_nanos(1_000))
}

async fn set(kv: &MemoryKv, key: &str, value: &str) -> Timestamp {
    let t = kv.begin(ReadWriteOptions::default());
    t.write(put(key, value)).await.unwrap();
    t.commit().await.unwrap().unwrap()
}

async fn strong(kv: &MemoryKv, bound: ReadBound, key: &str) -> Result<Option<Bytes>, KvError> {
    kv.begin_read_only(ReadOnlyOptions { bound, single_operation: true }).get(k(key), Locking::SHARED).await
}

/// A future that has not finished after the other tasks had their turn. There is one thread, so yielding is enough.
async fn is_waiting<T>(task: &tokio::task::JoinHandle<T>) -> bool {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
    !task.is_finished()
}

#[tokio::test]
async fn snapshots_see_exactly_what_was_committed_before() {
    let kv = store();
    let t1 = set(&kv, "a", "1").await;
    let t2 = set(&kv, "a", "2").await;
    assert!(t1 < t2);
    assert_eq!(strong(&kv, ReadBound::At(t1.prev()), "a").await.unwrap(), None);
    assert_eq!(strong(&kv, ReadBound::At(t1), "a").await.unwrap(), Some(v("1")));
    assert_eq!(strong(&kv, ReadBound::Strong, "a").await.unwrap(), Some(v("2")));
    assert_eq!(strong(&kv, ReadBound::At(t2.next()), "a").await, Err(KvError::InFuture { at: t2.next() }));
    kv.set_horizon(t2);
    assert_eq!(
        strong(&kv, ReadBound::At(t1), "a").await,
        Err(KvError::SnapshotTooOld { at: t1, horizon: t2 })
    );
}

#[tokio::test]
async fn a_snapshot_stays_where_it_was_first_read() {
    let kv = store();
    set(&kv, "a", "1").await;
    let old = kv.begin_read_only(ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false });
    assert_eq!(old.read_timestamp(), None);
    assert_eq!(old.get(k("a"), Locking::SHARED).await.unwrap(), Some(v("1")));
    set(&kv, "a", "2").await;
    assert_eq!(old.get(k("a"), Locking::SHARED).await.unwrap(), Some(v("1")));
    assert!(old.read_timestamp().is_some());
    assert_eq!(old.write(put("a", "3")).await, Err(KvError::ReadOnly));
}

#[tokio::test]
async fn own_writes_are_seen_and_savepoints_undo_them() {
    let kv = store();
    for key in ["b", "d"] {
        set(&kv, key, "old").await;
    }
    let t = kv.begin(ReadWriteOptions::default());
    t.write(put("a", "1")).await.unwrap();
    let mark = t.savepoint();
    t.write(put("c", "2")).await.unwrap();
    t.write(vec![KvWrite { key: k("b"), value: None }]).await.unwrap();
    let keys = |page: ScanPage| page.rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(t.scan(scan(Span::ALL, false, 10)).await.unwrap()), [k("a"), k("c"), k("d")]);
    assert_eq!(keys(t.scan(scan(Span::ALL, true, 2)).await.unwrap()), [k("d"), k("c")]);
    t.rollback_to(mark).await.unwrap();
    assert_eq!(keys(t.scan(scan(Span::ALL, false, 10)).await.unwrap()), [k("a"), k("b"), k("d")]);
    t.commit().await.unwrap();
    assert_eq!(strong(&kv, ReadBound::Strong, "c").await.unwrap(), None);
    assert_eq!(strong(&kv, ReadBound::Strong, "a").await.unwrap(), Some(v("1")));
}

#[tokio::test]
async fn paging_returns_every_row_once_in_both_directions() {
    let kv = store();
    kv.set_page_rows(3);
    let keys: Vec<String> = (0..10).map(|i| format!("k{i}")).collect();
    for key in &keys {
        set(&kv, key, "v").await;
    }
    let t = kv.begin_read_only(ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true });
    for reverse in [false, true] {
        let mut seen = Vec::new();
        let mut rest = Some(Span::prefix(&k("k")));
        while let Some(span) = rest {
            let page = t.scan(scan(span, reverse, 100)).await.unwrap();
            assert!(page.rows.len() <= 3);
            seen.extend(page.rows.into_iter().map(|(key, _)| key));
            rest = page.resume;
        }
        let mut expected: Vec<Key> = keys.iter().map(|s| k(s)).collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn an_older_transaction_wounds_a_younger_one() {
    let kv = store();
    let old = kv.begin(ReadWriteOptions::default());
    let young = kv.begin(ReadWriteOptions::default());
    young.get(k("a"), Locking::EXCLUSIVE).await.unwrap();
    old.get(k("a"), Locking::SHARED).await.unwrap();
    let wounded = Err(KvError::Retry { reason: RetryReason::Wounded });
    assert_eq!(young.get(k("b"), Locking::SHARED).await, wounded);
    assert_eq!(young.commit().await.map(|_| None), wounded);
    old.write(put("a", "1")).await.unwrap();
    old.commit().await.unwrap();
    let again = kv.begin(ReadWriteOptions { retry_of: young.id() });
    assert_eq!(again.id().unwrap().first_start, young.id().unwrap().first_start);
    assert_ne!(again.id(), young.id());
    assert_eq!(again.get(k("a"), Locking::SHARED).await.unwrap(), Some(v("1")));
}

#[tokio::test]
async fn a_younger_transaction_waits_and_then_sees_the_result() {
    let kv = store();
    let old = kv.begin(ReadWriteOptions::default());
    old.get(k("a"), Locking::EXCLUSIVE).await.unwrap();
    let young: Arc<dyn KvTxn> = Arc::from(kv.begin(ReadWriteOptions::default()));
    let reader = Arc::clone(&young);
    let reader = tokio::spawn(async move { reader.get(k("a"), Locking::SHARED).await });
    assert!(is_waiting(&reader).await);
    let nowait = Locking { lock: ReadLock::Shared, wait: LockWait::NoWait };
    assert_eq!(young.get(k("a"), nowait).await, Err(KvError::LockNotAvailable));
    let skip = Locking { lock: ReadLock::Exclusive, wait: LockWait::SkipLocked };
    assert_eq!(young.get(k("a"), skip).await.unwrap(), None);
    old.write(put("a", "1")).await.unwrap();
    old.commit().await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap(), Some(v("1")));
}

#[tokio::test]
async fn a_scan_keeps_phantoms_out_and_skips_what_is_locked() {
    let kv = store();
    set(&kv, "a", "1").await;
    set(&kv, "c", "1").await;
    let old = kv.begin(ReadWriteOptions::default());
    assert_eq!(old.scan(scan(span("a", "d"), false, 10)).await.unwrap().rows.len(), 2);
    let young: Arc<dyn KvTxn> = Arc::from(kv.begin(ReadWriteOptions::default()));
    young.write(put("b", "phantom")).await.unwrap();
    let locking = Locking { lock: ReadLock::Exclusive, wait: LockWait::SkipLocked };
    let request = ScanRequest { span: span("a", "z"), reverse: false, limit: 10, locking };
    let other = kv.begin(ReadWriteOptions::default());
    assert!(other.scan(request).await.unwrap().rows.is_empty());
    let committing = Arc::clone(&young);
    let commit = tokio::spawn(async move { committing.commit().await });
    assert!(is_waiting(&commit).await);
    assert_eq!(old.scan(scan(span("a", "d"), false, 10)).await.unwrap().rows.len(), 2);
    drop(old);
    assert!(commit.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn commit_bounds_and_injected_failures() {
    let kv = store();
    let t = kv.begin(ReadWriteOptions::default());
    t.limit_commit_timestamp(kv.now().unwrap().latest());
    t.write(put("a", "1")).await.unwrap();
    assert_eq!(t.commit().await, Err(KvError::Retry { reason: RetryReason::NoTimestamp }));
    let later = kv.now().unwrap().latest() + Duration::from_secs(3_600);
    let t = kv.begin(ReadWriteOptions::default());
    t.write(put("a", "0")).await.unwrap();
    t.raise_commit_timestamp(later);
    t.limit_commit_timestamp(later);
    assert_eq!(t.commit().await, Ok(Some(later)));
    assert!(kv.now().unwrap().earliest() >= later);
    kv.fail_next_commit(KvError::Ambiguous);
    let t = kv.begin(ReadWriteOptions::default());
    t.write(put("a", "2")).await.unwrap();
    assert_eq!(t.commit().await, Err(KvError::Ambiguous));
    assert_eq!(strong(&kv, ReadBound::Strong, "a").await.unwrap(), Some(v("2")));
    let t = kv.begin(ReadWriteOptions::default());
    let too_long = Key::new(vec![0; limits::KEY_BYTES_MAX + 1]);
    let refused = t.write(vec![KvWrite { key: too_long, value: None }]).await;
    assert!(matches!(refused, Err(KvError::TooLarge { what: "key", .. })));
    assert!(kv.wound(t.id().unwrap()));
    assert_eq!(t.commit().await, Err(KvError::Retry { reason: RetryReason::Wounded }));
}

#[tokio::test]
async fn write_skew_is_impossible() {
    // Two transactions read both keys and write one each: one of them must see the other's write.
    let kv = store();
    set(&kv, "x", "0").await;
    set(&kv, "y", "0").await;
    let old = kv.begin(ReadWriteOptions::default());
    let young = kv.begin(ReadWriteOptions::default());
    for t in [&old, &young] {
        t.multi_get(vec![k("x"), k("y")], Locking::SHARED).await.unwrap();
    }
    old.write(put("x", "1")).await.unwrap();
    young.write(put("y", "1")).await.unwrap();
    assert!(old.commit().await.is_ok());
    assert_eq!(young.commit().await, Err(KvError::Retry { reason: RetryReason::Wounded }));
}

#[tokio::test]
async fn the_cluster_of_one_node_answers() {
    let kv = store();
    kv.split_at(k("m")).await.unwrap();
    kv.split_at(k("m")).await.unwrap();
    let shards = kv.shards().await.unwrap();
    assert_eq!(shards.len(), 2);
    assert_eq!((shards[0].end.clone(), shards[1].start.clone()), (Some(k("m")), k("m")));
    assert_ne!(kv.allocate_id("a").await.unwrap(), kv.allocate_id("a").await.unwrap());
    let t = kv.begin(ReadWriteOptions::default());
    t.get(k("z"), Locking::EXCLUSIVE).await.unwrap();
    let locks = kv.locks().await.unwrap();
    assert_eq!((locks.len(), locks[0].group, locks[0].mode), (1, 2, "exclusive"));
    assert_eq!(kv.transactions().await.unwrap().len(), 1);
    drop(t);
    assert!(kv.locks().await.unwrap().is_empty());
}
