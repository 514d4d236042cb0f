use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use meridian_kv_api::{KvWrite, MemoryKv, ReadWriteOptions};

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
    let before = kv.now().unwrap().earliest();
    let guard = cache.acquire().await.unwrap();
    assert_eq!(guard.snapshot().version(), 1);
    assert!(guard.limit() >= before + LEASE && guard.limit() <= kv.now().unwrap().earliest() + LEASE);
    assert!(cache.try_acquire().unwrap().is_some());
}

#[tokio::test]
async fn a_lease_that_ran_out_is_renewed_before_use() {
    let (kv, cache) = booted().await;
    let long = cache.acquire().await.unwrap();
    let first = long.limit();
    kv.advance(Duration::from_secs(1));
    assert!(cache.try_acquire().unwrap().is_none());
    let renewed = cache.acquire().await.unwrap();
    assert!(renewed.limit() > first);
    assert_eq!(long.limit(), renewed.limit(), "the version is the same, so its lease grew");
}

#[tokio::test]
async fn a_change_is_seen_by_new_transactions_only() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let (version, _) = commit(&kv, create(log())).await;
    assert_eq!(cache.acquire().await.unwrap().snapshot().version(), 1, "within the lease");
    cache.refresh().await.unwrap();
    let limit = old.limit();
    let new = cache.acquire().await.unwrap();
    assert_eq!(new.snapshot().version(), version);
    assert!(new.snapshot().table(log().id).is_some());
    assert!(old.snapshot().table(log().id).is_none());
    kv.advance(Duration::from_secs(1));
    cache.refresh().await.unwrap();
    assert_eq!(old.limit(), limit, "a retired version's lease does not grow");
    assert!(new.limit() > limit);
}

/// Announces an activation.
async fn announce(kv: &MemoryKv, after: Duration) -> Timestamp {
    let now = kv.now().unwrap();
    let txn = kv.begin(ReadWriteOptions::default());
    CatalogStore::announce(&*txn, now.latest() + after, now.earliest()).await.unwrap();
    txn.commit().await.unwrap();
    now.latest() + after
}

/// Commits a change that takes effect at an announced time.
async fn commit_at(kv: &MemoryKv, changes: Vec<CatalogChange>, at: Timestamp) -> u64 {
    let txn = kv.begin(ReadWriteOptions::default());
    let version = CatalogStore::apply(&*txn, changes).await.unwrap();
    CatalogStore::activate_at(&*txn, at, kv.now().unwrap().earliest()).await.unwrap();
    txn.limit_commit_timestamp(at.prev());
    assert!(txn.commit().await.unwrap().expect("it wrote") < at);
    version
}

fn renamed(t: TableDesc) -> Vec<CatalogChange> {
    let version = t.version + 1;
    vec![CatalogChange::ReplaceTable(Box::new(TableDesc { name: "renamed".into(), version, ..t }))]
}

#[tokio::test]
async fn a_version_takes_effect_at_its_time_and_not_before() {
    let (kv, cache) = booted().await;
    let (first, _) = commit(&kv, create(log())).await;
    cache.refresh().await.unwrap();
    let old = cache.acquire().await.unwrap();
    let at = announce(&kv, Duration::from_millis(1)).await;
    cache.publish(first + 1).await.unwrap();
    assert_eq!(old.limit(), at.prev(), "the announcement bounds commits");
    let second = commit_at(&kv, renamed(log()), at).await;
    cache.publish(second).await.unwrap();
    assert_eq!(cache.acquire().await.unwrap().snapshot().version(), first, "before its time");
    let early = kv.now().unwrap().latest();
    assert_eq!(cache.at(early).await.unwrap().version(), first, "a read of that moment");
    kv.advance(Duration::from_millis(2));
    let new = cache.try_acquire().unwrap().expect("nothing has to be read");
    assert_eq!(new.snapshot().version(), second);
    assert_eq!(cache.at(at.prev()).await.unwrap().version(), first);
    assert_eq!(cache.at(at).await.unwrap().version(), second);
    assert_eq!(old.limit(), at.prev());
}

/// Between two activations a node has missed the first, and looks at the store when the second is stored.
#[tokio::test]
async fn a_lease_that_ran_out_is_not_renewed_for_what_may_not_be_in_force() {
    let (kv, cache) = booted().await;
    commit(&kv, create(log())).await;
    let old = cache.acquire().await.unwrap();
    kv.advance(LEASE + LEASE);
    let at = announce(&kv, Duration::from_millis(1)).await;
    let missed = commit_at(&kv, renamed(log()), at).await;
    kv.advance(Duration::from_millis(2));
    let table = TableDesc { name: "renamed".into(), version: log().version + 1, ..log() };
    let at = announce(&kv, Duration::from_millis(2)).await;
    let newest = commit_at(&kv, renamed(table), at).await;
    let late = CatalogCache::new(Arc::new(kv.clone()), LEASE);
    for cache in [&cache, &late] {
        for look in 0..2 {
            cache.refresh().await.unwrap();
            assert!(cache.try_acquire().unwrap().is_none(), "{missed} is in force, look {look}");
        }
    }
    assert!(old.limit() < kv.now().unwrap().earliest());
    kv.advance(Duration::from_millis(3));
    for cache in [&cache, &late] {
        assert_eq!(cache.acquire().await.unwrap().snapshot().version(), newest);
    }
}

#[tokio::test]
async fn transactions_that_a_change_does_not_touch_go_on() {
    let (kv, cache) = booted().await;
    let (first, _) = commit(&kv, create(log())).await;
    cache.refresh().await.unwrap();
    let old = cache.acquire().await.unwrap();
    let at = announce(&kv, Duration::from_millis(1)).await;
    cache.publish(first + 1).await.unwrap();
    let second = commit_at(&kv, renamed(log()), at).await;
    cache.publish(second).await.unwrap();
    let concerned = cache.commit_permit(&old, &[log().id]).await.unwrap().expect("its time is not over");
    assert_eq!(concerned.limit(), at.prev());
    concerned.end();
    let other = cache.commit_permit(&old, &[]).await.unwrap().expect("its time is not over");
    assert!(other.limit() > at);
    other.end();
    kv.advance(Duration::from_millis(2));
    assert!(cache.commit_permit(&old, &[log().id]).await.unwrap().is_none(), "it has to be planned again");
    assert!(cache.commit_permit(&old, &[]).await.unwrap().is_some());
    assert!(cache.advance(&old, &[log().id]).is_none());
    assert_eq!(cache.advance(&old, &[]).unwrap().snapshot().version(), second);
}

#[tokio::test]
async fn an_announcement_waits_for_commits_under_way() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let permit = cache.commit_permit(&old, &[]).await.unwrap().expect("nothing is announced");
    let at = announce(&kv, Duration::from_millis(1)).await;
    assert!(permit.limit() > at);
    let publish = cache.publish(2);
    tokio::pin!(publish);
    assert!(is_pending(publish.as_mut()).await);
    let next = cache.commit_permit(&old, &[]).await.unwrap().expect("its time is not over");
    assert_eq!(next.limit(), at.prev(), "the next commit is bounded");
    permit.end();
    publish.await.unwrap();
    next.end();
}

/// The commit may be waiting for locks of whoever has announced the fence.
#[tokio::test]
async fn a_commit_that_holds_an_announcement_up_is_asked_to_give_up() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let permit = cache.commit_permit(&old, &[]).await.unwrap().expect("nothing is announced");
    announce(&kv, Duration::from_millis(1)).await;
    cache.refresh().await.unwrap();
    let bounded = cache.commit_permit(&old, &[]).await.unwrap().expect("its time is not over");
    let slow = async {
        permit.unwanted().await;
        permit.end();
    };
    let (published, ()) = tokio::join!(cache.publish(2), slow);
    published.unwrap();
    assert!(is_pending(std::pin::pin!(bounded.unwanted())).await, "it holds nobody up");
    bounded.end();
    kv.advance(Duration::from_millis(2));
    cache.refresh().await.unwrap();
    let later = cache.commit_permit(&old, &[]).await.unwrap().expect("the announcement is forgotten");
    assert!(is_pending(std::pin::pin!(later.unwanted())).await, "it began after the fence");
    later.end();
}

/// A slow commit outlives the fence that came after it, which came to nothing; the next one has to wait for it, too.
#[tokio::test]
async fn an_announcement_waits_for_commits_from_before_the_one_before() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let permit = cache.commit_permit(&old, &[]).await.unwrap().expect("nothing is announced");
    announce(&kv, Duration::from_micros(200)).await;
    cache.refresh().await.unwrap();
    kv.advance(Duration::from_micros(500));
    cache.refresh().await.unwrap();
    let at = announce(&kv, Duration::from_millis(1)).await;
    assert!(permit.limit() >= at, "it may commit above");
    let publish = cache.publish(2);
    tokio::pin!(publish);
    assert!(is_pending(publish.as_mut()).await);
    permit.end();
    publish.await.unwrap();
}

#[tokio::test]
async fn a_commit_that_nobody_waited_for_is_waited_out() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let permit = cache.commit_permit(&old, &[]).await.unwrap().expect("nothing is announced");
    let limit = permit.limit();
    drop(permit);
    announce(&kv, Duration::from_millis(1)).await;
    let publish = cache.publish(2);
    tokio::pin!(publish);
    assert!(is_pending(publish.as_mut()).await);
    kv.advance(LEASE);
    publish.await.unwrap();
    assert!(kv.now().unwrap().earliest() > limit);
}

#[tokio::test]
async fn an_announcement_without_a_change_is_forgotten() {
    let (kv, cache) = booted().await;
    let old = cache.acquire().await.unwrap();
    let at = announce(&kv, Duration::from_millis(1)).await;
    cache.publish(2).await.unwrap();
    assert_eq!(old.limit(), at.prev());
    kv.advance(Duration::from_millis(2));
    assert!(cache.try_acquire().unwrap().is_none(), "the store has to be asked");
    let again = cache.acquire().await.unwrap();
    assert_eq!(again.snapshot().version(), 1);
    assert!(old.limit() > at, "the version and its guards stand");
}

#[tokio::test]
async fn an_announcement_is_forgotten_also_by_who_next_sees_a_later_one() {
    let (kv, cache) = booted().await;
    let first = announce(&kv, Duration::from_millis(1)).await;
    cache.publish(2).await.unwrap();
    kv.advance(Duration::from_millis(2));
    let second = announce(&kv, Duration::from_millis(5)).await;
    let between = cache.acquire().await.unwrap();
    assert!(between.limit() > first && between.limit() < second, "the first came to nothing");
    kv.advance(Duration::from_millis(10));
    let after = cache.acquire().await.unwrap();
    assert_eq!(after.snapshot().version(), 1);
    assert!(after.limit() > second);
}

#[tokio::test]
async fn a_commit_does_not_begin_with_the_rest_of_a_lease() {
    let (kv, cache) = booted().await;
    let (_, _) = commit(&kv, create(log())).await;
    let guard = cache.acquire().await.unwrap();
    // Refreshes come late: a sixth of the lease is left.
    kv.advance(Duration::from_nanos(LEASE.as_nanos() * 5 / 6));
    let short = guard.limit();
    assert!(short > kv.now().unwrap().latest(), "it has not run out");
    let permit = cache.commit_permit(&guard, &[log().id]).await.unwrap().expect("nothing was changed");
    let third = Duration::from_nanos(LEASE.as_nanos() / 3);
    assert!(permit.limit() >= kv.now().unwrap().latest() + third, "the commit has time");
    permit.end();
    // What is announced bounds it all the same.
    let at = announce(&kv, Duration::from_micros(500)).await;
    cache.refresh().await.unwrap();
    let permit = cache.commit_permit(&guard, &[log().id]).await.unwrap().expect("it is still to come");
    assert_eq!(permit.limit(), at.prev());
    permit.end();
}

fn licence() -> Licence {
    let record = meridian_keys::SystemKey::Node(meridian_types::NodeId::new(4)).encode();
    Licence { record, allows: |record| record == Some(b"member") }
}

async fn write_licence(kv: &MemoryKv, value: &'static [u8]) {
    let txn = kv.begin(ReadWriteOptions::default());
    let write = KvWrite { key: licence().record, value: Some(bytes::Bytes::from_static(value)) };
    txn.write(vec![write]).await.unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn a_node_without_licence_has_no_lease_and_heeds_fences() {
    let (kv, _) = booted().await;
    let (first, _) = commit(&kv, create(log())).await;
    let cache = CatalogCache::new(Arc::new(kv.clone()), LEASE).under(licence());
    let refused = cache.acquire().await.expect_err("it has not joined");
    assert!(refused.to_string().contains("decommissioned"), "{refused}");
    write_licence(&kv, b"member").await;
    let guard = cache.acquire().await.unwrap();
    let limit = guard.limit();
    assert_eq!(guard.snapshot().version(), first);
    write_licence(&kv, b"gone").await;
    let withdrawn = kv.now().unwrap().latest();
    for _ in 0..3 {
        kv.advance(Duration::from_nanos(LEASE.as_nanos() / 4));
        cache.refresh().await.unwrap();
        assert_eq!(guard.limit(), limit, "the rest of its lease is what it has");
    }
    assert!(limit < withdrawn + LEASE);
    // A fence cuts off more of it, and the version behind it has no lease here.
    let at = announce(&kv, Duration::from_micros(10)).await;
    assert!(at < limit);
    cache.publish(first + 1).await.unwrap();
    assert_eq!(guard.limit(), at.prev());
    let second = commit_at(&kv, renamed(log()), at).await;
    cache.publish(second).await.unwrap();
    kv.advance(Duration::from_micros(20));
    assert!(cache.try_acquire().unwrap().is_none());
    assert!(cache.acquire().await.is_err());
    assert!(cache.commit_permit(&guard, &[log().id]).await.is_err());
}

#[tokio::test]
async fn one_activation_is_announced_at_a_time() {
    let (kv, _) = booted().await;
    let at = announce(&kv, Duration::from_millis(1)).await;
    let now = kv.now().unwrap();
    let txn = kv.begin(ReadWriteOptions::default());
    let second = CatalogStore::announce(&*txn, at.next(), now.earliest()).await;
    assert_eq!(second, Err(CatalogError::Fenced { until: at }));
    txn.rollback().await;
    kv.advance(Duration::from_millis(2));
    let later = announce(&kv, Duration::from_millis(1)).await;
    let txn = kv.begin(ReadWriteOptions::default());
    let overtaken = CatalogStore::activate_at(&*txn, at, kv.now().unwrap().earliest()).await;
    assert_eq!(overtaken, Err(CatalogError::Fenced { until: later }));
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
async fn between_two_looks_at_the_same_version_nothing_else_was_in_force() {
    let (kv, cache) = booted().await;
    cache.refresh().await.unwrap();
    let (version, made) = commit(&kv, create(log())).await;
    cache.refresh().await.unwrap();
    kv.advance(Duration::from_secs(1));
    let between = kv.now().unwrap().latest();
    kv.advance(Duration::from_secs(1));
    cache.refresh().await.unwrap();
    let confirmed =
        |state: &SchemaLease| state.confirmed.as_ref().map(|c| (c.snapshot.version(), c.from, c.through));
    let (known, from, through) = confirmed(&cache.state.lock()).unwrap();
    assert_eq!(known, version);
    assert!(made <= from && from < between && between < through, "{made} {from} {between} {through}");
    assert!(Arc::ptr_eq(&cache.at(between).await.unwrap(), &cache.latest()));
    assert_eq!(cache.at(made.prev()).await.unwrap().version(), version - 1);
    let (next, _) = commit(
        &kv,
        create({
            let mut parentless = orders();
            parentless.interleave = None;
            parentless
        }),
    )
    .await;
    cache.refresh().await.unwrap();
    let (known, from, _) = confirmed(&cache.state.lock()).unwrap();
    assert!(known == next && from > through, "what it is known of begins anew");
    assert_eq!(cache.at(between).await.unwrap().version(), version);
}

#[tokio::test]
async fn a_look_at_the_past_says_nothing() {
    let (kv, cache) = booted().await;
    let (version, _) = commit(&kv, create(log())).await;
    let guard = cache.acquire().await.unwrap();
    let limit = guard.limit();
    let mut state = cache.state.lock();
    let stored = crate::CatalogVersion { version: version - 1, ..Default::default() };
    let found = crate::CatalogState { stored, fence: None };
    let next = Some(Arc::new(CatalogSnapshot::new(version - 1, START, [], [], [])));
    let now = kv.now().unwrap();
    let lease_end = Some(now.latest() + LEASE + LEASE);
    state.take_in(Look { found, next, read_at: START, lease_end }, now);
    assert_eq!(state.newest_version(), version);
    assert_eq!(guard.limit(), limit, "no lease comes of it");
}

#[tokio::test]
async fn the_background_task_ends_when_told() {
    let (_, cache) = booted().await;
    Arc::new(cache).run(std::future::ready(())).await;
}
