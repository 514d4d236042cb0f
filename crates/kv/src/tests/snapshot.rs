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

/// A read of a shard led by node 2, at a timestamp that every replica has closed, in a transaction of its own.
async fn read_closed(gateway: &Gateway, hedges: bool) -> Result<Option<bytes::Bytes>, KvError> {
    let at = gateway.now().unwrap().earliest().saturating_sub(meridian_types::Duration::from_secs(1));
    let txn = read_only(gateway, ReadBound::At(at), false);
    txn.set_hedging(hedges);
    txn.get(k("i"), Locking::SHARED).await
}

#[tokio::test(start_paused = true)]
async fn a_read_that_its_replica_keeps_waiting_is_answered_by_a_second_one() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("i", "1")).await.unwrap();
    txn.commit().await.unwrap();
    fake.clock.advance(std::time::Duration::from_secs(10));
    fake.trace();
    // Reads that wait add to the budget; the first ones get no hedge, and go to the leader in the end.
    let mut hedged = 0;
    for _ in 0..100 {
        fake.state.lock().slow_answers.push("n1 g3 Read at");
        let began = tokio::time::Instant::now();
        assert_eq!(read_closed(&gateway, true).await, Ok(Some(v("1"))));
        let took = began.elapsed();
        let trace = fake.trace();
        let asked: Vec<&str> = trace.lines().map(|line| &line[..5]).collect();
        match &asked[..] {
            ["n1 g3", "n2 g3"] if took < crate::limits::FOLLOWER_TIMEOUT => hedged += 1,
            ["n1 g3", "n3 g3"] if took < crate::limits::FOLLOWER_TIMEOUT => hedged += 1,
            ["n1 g3", "n2 g3"] => assert_eq!(took, crate::limits::FOLLOWER_TIMEOUT),
            // What is slow all the time is not asked first any more, and the answer is there at once.
            ["n2 g3"] | ["n3 g3"] => fake.state.lock().slow_answers.clear(),
            other => panic!("{other:?} after {took:?}"),
        }
    }
    assert_eq!(gateway.counters(), [("hedged_reads", hedged), ("hedged_reads_won", hedged)]);
    assert!((1..=2).contains(&hedged), "{hedged}: two of a hundred");
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_hedges_gets_none() {
    let (fake, gateway) = warm_cluster().await;
    for _ in 0..100 {
        fake.state.lock().slow_answers.push("n1 g3 Read at");
        assert_eq!(read_closed(&gateway, false).await, Ok(None));
    }
    assert_eq!(gateway.counters()[0].1, 0);
}
