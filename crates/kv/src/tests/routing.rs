use meridian_kv_api::{KvError, Locking, ScanRequest};
use meridian_shard::ShardError;
use meridian_types::Span;

use super::fake::*;

#[track_caller]
fn expect(trace: &str, lines: &[&str]) {
    assert_eq!(trace.lines().map(str::to_owned).collect::<Vec<_>>(), lines);
}

#[tokio::test(start_paused = true)]
async fn the_map_is_read_once_and_leaders_are_learned() {
    let (fake, gateway) = cluster();
    let txn = begin(&gateway);
    txn.get(k("i"), Locking::SHARED).await.unwrap();
    txn.get(k("j"), Locking::SHARED).await.unwrap();
    expect(
        &fake.trace(),
        &[
            "n1 g1 Read strong: [\\x08\\x01\\x01i\\x00,\\x08\\x02)x64",
            "n1 g3 Read t1 S Wait: i",
            "n2 g3 Read t1 S Wait: i",
            "n2 g3 Read t1 r3 S Wait: j",
        ],
    );
    txn.get(k("q"), Locking::SHARED).await.unwrap();
    let trace = fake.trace();
    assert!(!trace.contains("g1 Read"), "the page held the neighbour too: {trace}");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_found_as_soon_as_there_is_one() {
    let (fake, gateway) = warm_cluster().await;
    fake.state.lock().dead.insert(node(2));
    fake.state.lock().leaders.remove(&group(3));
    let txn = begin(&gateway);
    let read = tokio::spawn(async move { txn.get(k("i"), Locking::SHARED).await });
    tokio::time::sleep(std::time::Duration::from_millis(2_000)).await;
    assert!(!read.is_finished());
    fake.trace();
    fake.state.lock().leaders.insert(group(3), node(3));
    let elected = tokio::time::Instant::now();
    assert_eq!(read.await.unwrap(), Ok(None));
    assert!(elected.elapsed() <= crate::limits::PAUSE_MAX, "virtual time between election and answer");
    let trace = fake.trace();
    assert!(trace.contains("n3 g3 Read t4 S Wait: i"), "{trace}");
}

#[tokio::test(start_paused = true)]
async fn many_transactions_share_one_search() {
    let (fake, gateway) = warm_cluster().await;
    fake.state.lock().leaders.remove(&group(3));
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let txn = begin(&gateway);
            tokio::spawn(async move { txn.get(k("i"), Locking::SHARED).await })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let probes = fake.trace().matches("Heartbeat []").count();
    assert!(probes < 200, "{probes} probes for one shard");
    fake.state.lock().leaders.insert(group(3), node(1));
    for read in reads {
        assert_eq!(read.await.unwrap(), Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_a_leader_is_given_up_after_a_while() {
    let (fake, gateway) = warm_cluster().await;
    fake.state.lock().leaders.remove(&group(3));
    let txn = begin(&gateway);
    let began = tokio::time::Instant::now();
    assert!(matches!(txn.get(k("i"), Locking::SHARED).await, Err(KvError::Unavailable { .. })));
    let took = began.elapsed();
    assert!(
        took >= crate::limits::GIVE_UP_AFTER && took < 2 * crate::limits::GIVE_UP_AFTER,
        "{took:?} of virtual time"
    );
}

#[tokio::test(start_paused = true)]
async fn overload_is_waited_out() {
    let (fake, gateway) = warm_cluster().await;
    fake.answer("Read", Err(ShardError::Overloaded));
    fake.answer("Read", Err(ShardError::Overloaded));
    let txn = begin(&gateway);
    assert_eq!(txn.get(k("b"), Locking::SHARED).await, Ok(None));
    assert_eq!(fake.trace().lines().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_scan_crosses_shards_page_by_page() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    for key in ["b", "c", "i", "q"] {
        txn.write(put(key, "1")).await.unwrap();
    }
    txn.commit().await.unwrap();
    settle().await;
    for (reverse, expected) in [(false, ["b", "c", "i", "q"]), (true, ["q", "i", "c", "b"])] {
        fake.trace();
        let txn = begin(&gateway);
        let mut rest = Some(Span::new(k("b"), None));
        let mut keys = Vec::new();
        while let Some(span) = rest {
            let request = ScanRequest { span, reverse, limit: 10, locking: Locking::SHARED };
            let page = txn.scan(request).await.unwrap();
            keys.extend(page.rows.into_iter().map(|(key, _)| key));
            rest = page.resume;
        }
        assert_eq!(keys, expected.map(k));
        let mut lines = vec![
            "n1 g2 Read t5 S Wait: [b,h)x10",
            "n2 g3 Read t5 S Wait: [h,p)x10",
            "n3 g4 Read t5 S Wait: [p,~)x10",
        ];
        let trace = fake.trace().replace("t6", "t5").replace("reverse ", "");
        if reverse {
            lines.reverse();
        }
        expect(&trace, &lines);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_moved_are_grouped_again() {
    let (fake, gateway) = warm_cluster().await;
    fake.split(3, "m", 9);
    let records = fake.state.lock().shards.clone();
    gateway.publish_descriptors(records).await.unwrap();
    let (fake2, stale) = (fake.clone(), gateway);
    stale.core.router.forget(&stale.core.router.shard(&k("n")).unwrap());
    let txn = begin(&stale);
    fake2.trace();
    txn.multi_get(vec![k("i"), k("n"), k("j")], Locking::SHARED).await.unwrap();
    let trace = fake2.trace();
    assert!(trace.contains("g3 Read") && trace.contains("g9 Read"), "{trace}");
}
