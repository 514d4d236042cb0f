use std::sync::atomic::Ordering;

use meridian_kv_api::{Kv, KvError, KvTxn, Locking, ReadBound, ReadOnlyOptions, ScanRequest};
use meridian_shard::ShardError;
use meridian_types::{Span, Timestamp};

use super::fake::*;
use crate::Gateway;

fn read_only(gateway: &Gateway, bound: ReadBound, single_operation: bool) -> Box<dyn KvTxn> {
    gateway.begin_read_only(ReadOnlyOptions { bound, single_operation })
}

fn scan(span: Span) -> ScanRequest {
    ScanRequest { span, reverse: false, limit: 1, locking: Locking::SHARED }
}

#[track_caller]
fn expect(trace: &str, lines: &[&str]) {
    assert_eq!(trace.lines().map(str::to_owned).collect::<Vec<_>>(), lines);
}

#[tokio::test(start_paused = true)]
async fn one_operation_in_one_shard_lets_the_leader_choose() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    for key in ["b", "c"] {
        txn.write(put(key, "1")).await.unwrap();
    }
    txn.commit().await.unwrap();
    fake.trace();
    let txn = read_only(&gateway, ReadBound::Strong, true);
    assert_eq!(txn.read_timestamp(), None);
    let page = txn.scan(scan(span("b", "d"))).await.unwrap();
    let rest = page.resume.unwrap();
    let at = txn.read_timestamp().unwrap();
    fake.clock.tick();
    let page = txn.scan(scan(rest)).await.unwrap();
    assert_eq!(page.rows, [(k("c"), v("1"))]);
    assert_eq!(txn.read_timestamp(), Some(at));
    let second = format!("n1 g2 Read at {}: [b\\x00,d)x1", at.as_nanos());
    expect(&fake.trace(), &["n1 g2 Read strong: [b,d)x1", &second]);
}

#[tokio::test(start_paused = true)]
async fn several_shards_are_read_at_the_latest_now() {
    let (fake, gateway) = warm_cluster().await;
    fake.clock.epsilon.store(500, Ordering::SeqCst);
    let txn = read_only(&gateway, ReadBound::Strong, true);
    txn.multi_get(vec![k("b"), k("i")], Locking::SHARED).await.unwrap();
    let at = gateway.now().unwrap().latest();
    assert_eq!(txn.read_timestamp(), Some(at));
    let at = at.as_nanos();
    expect(&fake.trace(), &[&format!("n1 g2 Read at {at}: b"), &format!("n2 g3 Read at {at}: i")]);
    let many = read_only(&gateway, ReadBound::Strong, false);
    many.get(k("b"), Locking::SHARED).await.unwrap();
    assert!(fake.trace().contains("n1 g2 Read at "), "no promise, no choice by the leader");
}

#[tokio::test(start_paused = true)]
async fn stale_reads_and_scans_stay_on_this_node() {
    let (fake, gateway) = warm_cluster().await;
    let old = Timestamp::from_nanos(700_000_000);
    let txn = read_only(&gateway, ReadBound::At(old), false);
    txn.get(k("i"), Locking::SHARED).await.unwrap();
    expect(&fake.trace(), &["n1 g3 Read at 700000000: i"]);
    let fresh = read_only(&gateway, ReadBound::Strong, false);
    fresh.get(k("i"), Locking::SHARED).await.unwrap();
    fresh.scan(scan(span("i", "j"))).await.unwrap();
    expect(&fake.trace().replace("1000000000", "T"), &["n2 g3 Read at T: i", "n1 g3 Read at T: [i,j)x1"]);
    let at_least = read_only(&gateway, ReadBound::AtLeast(old), false);
    at_least.get(k("i"), Locking::SHARED).await.unwrap();
    assert_eq!(
        at_least.read_timestamp(),
        Some(Timestamp::from_nanos(800_000_000)),
        "200 ms ago is closed everywhere"
    );
    expect(&fake.trace(), &["n1 g3 Read at 800000000: i"]);
}

#[tokio::test(start_paused = true)]
async fn the_leader_stands_in_for_a_follower() {
    let (fake, gateway) = warm_cluster().await;
    let old = ReadBound::At(Timestamp::from_nanos(700_000_000));
    fake.answer("n1 g3", Err(ShardError::NotLeader { group: group(3), leader: None }));
    read_only(&gateway, old, false).get(k("i"), Locking::SHARED).await.unwrap();
    expect(&fake.trace(), &["n1 g3 Read at 700000000: i", "n2 g3 Read at 700000000: i"]);
}

#[tokio::test(start_paused = true)]
async fn bounds_are_checked() {
    let (fake, gateway) = warm_cluster().await;
    let future = Timestamp::from_nanos(2_000_000_000);
    for bound in [ReadBound::At(future), ReadBound::AtLeast(future)] {
        let txn = read_only(&gateway, bound, true);
        assert_eq!(txn.get(k("b"), Locking::SHARED).await, Err(KvError::InFuture { at: future }));
    }
    let (at, horizon) = (Timestamp::from_nanos(5), Timestamp::from_nanos(9));
    fake.answer("Read", Err(ShardError::BelowHorizon { at, horizon }));
    let txn = read_only(&gateway, ReadBound::At(at), false);
    assert_eq!(txn.get(k("i"), Locking::SHARED).await, Err(KvError::SnapshotTooOld { at, horizon }));
    assert_eq!(txn.write(put("b", "1")).await, Err(KvError::ReadOnly));
}
