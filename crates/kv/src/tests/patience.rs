//! Commits that nobody wants any more, and locks that are not waited for for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_kv_api::{Kv, KvError, KvTxn, Locking, ReadWriteOptions};
use meridian_shard::ShardError;
use meridian_types::Timestamp;

use super::fake::*;
use crate::Gateway;

fn begin(gateway: &Gateway) -> Arc<dyn KvTxn> {
    Arc::from(gateway.begin(ReadWriteOptions::default()))
}

/// Commits, and stops the commit when everything waits.
async fn stopped(txn: &Arc<dyn KvTxn>) -> Result<Option<Timestamp>, KvError> {
    let committing = Arc::clone(txn);
    let commit = tokio::spawn(async move { committing.commit().await });
    // Time is paused: this ends when nothing else can go on.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!commit.is_finished(), "the commit should be waiting");
    txn.stop_commit();
    commit.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stopped_commit_that_was_not_decided_has_no_effect() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    fake.state.lock().waits.push("Commit");
    assert_eq!(stopped(&txn).await, Err(KvError::Stopped));
    settle().await;
    let expected = ["n1 g2 Commit t4 {b=1}", "n1 g2 QueryOutcome t4 at b abort=true", "n1 g2 Rollback t4"];
    assert_eq!(fake.trace().lines().collect::<Vec<_>>(), expected);
    assert_eq!(fake.value("b"), None);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_commit_that_was_decided_is_one() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    fake.state.lock().slow_answers.push("Commit");
    assert!(stopped(&txn).await.unwrap().is_some());
    assert_eq!(fake.value("b"), Some(v("1")));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_commit_of_which_nobody_knows_is_ambiguous() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    fake.state.lock().slow_answers.push("Commit");
    fake.state.lock().waits.push("QueryOutcome");
    assert_eq!(stopped(&txn).await, Err(KvError::Ambiguous));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_commit_that_was_refused_asks_nobody() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    fake.answer("Commit", Err(ShardError::Overloaded));
    assert_eq!(stopped(&txn).await, Err(KvError::Stopped));
    settle().await;
    assert_eq!(fake.trace().lines().collect::<Vec<_>>(), ["n1 g2 Commit t4 {b=1}", "n1 g2 Rollback t4"]);
}

#[tokio::test(start_paused = true)]
async fn two_phases_stop_before_the_decision_or_with_it() {
    let (fake, gateway) = warm_cluster().await;
    for (waits, slow) in [(Some("Prepare"), None), (Some("Decide"), None), (None, Some("Decide"))] {
        let txn = begin(&gateway);
        txn.write(put("b", "1")).await.unwrap();
        txn.write(put("i", "2")).await.unwrap();
        fake.state.lock().waits.extend(waits);
        fake.state.lock().slow_answers.extend(slow);
        let result = stopped(&txn).await;
        settle().await;
        let trace = fake.trace();
        match slow {
            None => {
                assert_eq!(result, Err(KvError::Stopped));
                assert!(trace.contains("aborted") && !trace.contains("committed"), "{trace}");
                assert_eq!((fake.value("b"), fake.value("i")), (None, None));
            }
            Some(_) => {
                assert!(result.unwrap().is_some());
                assert!(trace.contains("committed") && !trace.contains("aborted"), "{trace}");
                assert_eq!((fake.value("b"), fake.value("i")), (Some(v("1")), Some(v("2"))));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_waited_for_until_the_timeout() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.set_lock_timeout(Some(Duration::from_millis(300)));
    fake.state.lock().waits.push("Read");
    assert_eq!(txn.get(k("b"), Locking::EXCLUSIVE).await, Err(KvError::LockTimeout));
    fake.state.lock().waits.push("Read");
    let keys = vec![k("b"), k("i")];
    assert_eq!(txn.multi_get(keys, Locking::EXCLUSIVE).await, Err(KvError::LockTimeout));
    txn.write(put("b", "1")).await.unwrap();
    fake.state.lock().waits.push("Decide");
    assert_eq!(txn.commit().await, Err(KvError::LockTimeout));
    settle().await;
    let trace = fake.trace();
    assert_eq!(trace.lines().filter(|line| line.contains("CancelWaits t4")).count(), 3, "{trace}");
    assert!(!trace.contains("QueryOutcome"), "what the shard refused is known: {trace}");
}

/// The clocks of two nodes agree on the time, and one of them is less sure of it.
#[tokio::test(start_paused = true)]
async fn transactions_of_a_node_whose_clock_is_less_sure_are_not_younger() {
    let (unsure, gateway) = warm_cluster().await;
    let (sure, other) = warm_cluster().await;
    unsure.clock.epsilon.store(900, Ordering::SeqCst);
    let first = begin(&gateway).id().unwrap();
    sure.clock.advance(Duration::from_nanos(300));
    let second = begin(&other).id().unwrap();
    assert!(first.first_start < second.first_start, "{first} began first, {second} next");
}
