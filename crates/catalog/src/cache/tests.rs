use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use meridian_kv_api::{MemoryKv, ReadWriteOptions};

use super::*;
use crate::fixture::{log, orders};
use crate::{CatalogChange, TableDesc};

const LEASE: Duration = Duration::from_millis(3);
const START: Timestamp = Timestamp::from_nanos(1_000_000_000);

async fn commit(kv: &MemoryKv, changes: Vec<CatalogChange>) -> (u64, Timestamp) {
    let txn = kv.begin(ReadWriteOptions::default());
    let version = CatalogStore::apply(&*txn, changes).await.unwrap();
    (version, txn.commit().await.unwrap().expect("it wrote"))
}

fn create(t: TableDesc) -> Vec<CatalogChange> {
    vec![CatalogChange::CreateTable(Box::new(t))]
}

async fn booted() -> (MemoryKv, CatalogCache) {
    let kv = MemoryKv::manual(START);
    let txn = kv.begin(ReadWriteOptions::default());
    CatalogStore::bootstrap(&*txn).await.unwrap();
    txn.commit().await.unwrap();
    let cache = CatalogCache::new(Arc::new(kv.clone()), LEASE);
    (kv, cache)
}

async fn is_pending(future: Pin<&mut impl Future>) -> bool {
    let mut future = future;
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn the_first_use_loads_and_leases() {
    let (kv, cache) = booted().await;
    assert!(cache.try_acquire().unwrap().is_none());
    let before = kv.now().unwrap().latest();
    let guard = cache.acquire().await.unwrap();
    assert_eq!(guard.snapshot().version(), 1);
    assert!(
        guard.commit_limit() >= before + LEASE && guard.commit_limit() <= kv.now().unwrap().latest() + LEASE
    );
    assert!(cache.try_acquire().unwrap().is_some());
}

#[tokio::test]
async fn a_lease_that_ran_out_is_renewed_before_use() {
    let (kv, cache) = booted().await;
    let long = cache.acquire().await.unwrap();
    let first = long.commit_limit();
    kv.advance(Duration::from_secs(1));
    assert!(cache.try_acquire().unwrap().is_none());
    let renewed = cache.acquire().await.unwrap();
    assert!(renewed.commit_limit() > first);
    assert_eq!(long.commit_limit(), renewed.commit_limit(), "the version is the same, so its lease grew");
}

#[tokio::test]
async fn a_change_is_seen_by_new_transactions_only() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let (version, _) = commit(&kv, create(log())).await;
    assert_eq!(cache.acquire().await.unwrap().snapshot().version(), 1, "within the lease");
    cache.refresh().await.unwrap();
    let limit = old.commit_limit();
    let new = cache.acquire().await.unwrap();
    assert_eq!(new.snapshot().version(), version);
    assert!(new.snapshot().table(log().id).is_some());
    assert!(old.snapshot().table(log().id).is_none());
    kv.advance(Duration::from_secs(1));
    cache.refresh().await.unwrap();
    assert_eq!(old.commit_limit(), limit, "a retired version's lease does not grow");
    assert!(new.commit_limit() > limit);
}

#[tokio::test]
async fn publish_waits_for_transactions_of_older_versions() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let clone = old.clone();
    let (version, _) = commit(&kv, create(log())).await;
    let publish = cache.publish(version);
    tokio::pin!(publish);
    assert!(is_pending(publish.as_mut()).await);
    let new = cache.acquire().await.unwrap();
    assert_eq!(new.snapshot().version(), version, "new transactions do not wait");
    drop(old);
    assert!(is_pending(publish.as_mut()).await, "one is left");
    drop(clone);
    publish.await.unwrap();
    cache.publish(version).await.unwrap();
}

#[tokio::test]
async fn publish_does_not_wait_for_those_beyond_their_lease() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let (version, _) = commit(&kv, create(log())).await;
    let publish = cache.publish(version);
    tokio::pin!(publish);
    assert!(is_pending(publish.as_mut()).await);
    kv.advance(Duration::from_secs(1));
    publish.await.unwrap();
    assert!(kv.now().unwrap().earliest() > old.commit_limit());
}

#[tokio::test]
async fn the_past_has_its_own_snapshots() {
    let (kv, cache) = booted().await;
    let (_, first) = commit(&kv, create(log())).await;
    let mut parentless = orders();
    parentless.interleave = None;
    let (_, second) = commit(&kv, create(parentless)).await;
    cache.refresh().await.unwrap();
    for (at, version, tables) in [(START, 0, 0), (first.prev(), 1, 0), (first, 2, 1), (second, 3, 2)] {
        let snapshot = cache.at(at).await.unwrap();
        assert_eq!((snapshot.version(), snapshot.tables().count()), (version, tables), "at {at:?}");
    }
    let again = cache.at(first).await.unwrap();
    assert!(Arc::ptr_eq(&again, &cache.at(second.prev()).await.unwrap()), "one snapshot per version");
    assert!(Arc::ptr_eq(&cache.latest(), &cache.at(second).await.unwrap()));
}

#[tokio::test]
async fn the_background_task_ends_when_told() {
    let (_, cache) = booted().await;
    Arc::new(cache).run(std::future::ready(())).await;
}
