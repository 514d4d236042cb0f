use meridian_kv_api::{KvError, KvTxn, KvWrite, LockWait, Locking, ReadLock, RetryReason};
use meridian_shard::{AbortReason, Response, ShardError, Vote};
use meridian_types::Timestamp;

use super::fake::*;
use meridian_kv_api::Kv;

fn aborted(reason: AbortReason) -> Result<Response, ShardError> {
    Err(ShardError::Aborted { reason })
}

fn retry(reason: RetryReason) -> KvError {
    KvError::Retry { reason }
}

#[track_caller]
fn expect(trace: &str, lines: &[&str]) {
    assert_eq!(trace.lines().map(str::to_owned).collect::<Vec<_>>(), lines);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_in_one_shard_reads_and_commits_there() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    assert_eq!(txn.get(k("b"), Locking::EXCLUSIVE).await.unwrap(), None);
    txn.write(put("b", "1")).await.unwrap();
    assert_eq!(
        txn.get(k("b"), Locking::SHARED).await.unwrap(),
        Some(v("1")),
        "its own write, without a message"
    );
    txn.limit_commit_timestamp(Timestamp::from_nanos(9_000_000_000));
    let commit_ts = txn.commit().await.unwrap();
    assert!(commit_ts.is_some());
    drop(txn);
    settle().await;
    expect(&fake.trace(), &["n1 g2 Read t4 X Wait: b", "n1 g2 Commit t4 r2 {b=1} max 9000000000"]);
    assert_eq!(fake.value("b"), Some(v("1")));
    assert!(gateway.local_transactions(10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_rollback_asks_whether_what_was_read_stands() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.multi_get(vec![k("b"), k("q")], Locking::SHARED).await.unwrap();
    txn.write(put("b", "1")).await.unwrap();
    fake.trace();
    assert_eq!(txn.rollback_confirmed().await, Ok(()));
    assert_eq!(txn.rollback_confirmed().await, Ok(()), "it has ended");
    drop(txn);
    settle().await;
    expect(&fake.trace(), &["n1 g2 EndReads t4 r2", "n3 g4 EndReads t4 r4"]);
    assert_eq!(fake.value("b"), None, "and has no effect");
    assert!(gateway.local_transactions(10).is_empty());
    let txn = begin(&gateway);
    txn.get(k("b"), Locking::SHARED).await.unwrap();
    fake.answer("EndReads", aborted(AbortReason::LocksLost));
    assert_eq!(txn.rollback_confirmed().await, Err(retry(RetryReason::LocksLost)));
    let untouched = begin(&gateway);
    assert_eq!(untouched.rollback_confirmed().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn nothing_written_means_read_locks_are_checked_everywhere() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.multi_get(vec![k("b"), k("q"), k("c")], Locking::SHARED).await.unwrap();
    assert_eq!(txn.commit().await.unwrap(), None);
    let expected = [
        "n1 g2 Read t4 S Wait: b c",
        "n3 g4 Read t4 S Wait: q",
        "n1 g2 EndReads t4 r2",
        "n3 g4 EndReads t4 r4",
    ];
    expect(&fake.trace(), &expected);
    let txn = begin(&gateway);
    txn.get(k("b"), Locking::SHARED).await.unwrap();
    fake.answer("EndReads", aborted(AbortReason::LocksLost));
    assert_eq!(txn.commit().await, Err(retry(RetryReason::LocksLost)));
    let untouched = begin(&gateway);
    fake.trace();
    assert_eq!(untouched.commit().await, Ok(None));
    expect(&fake.trace(), &[]);
}

#[tokio::test(start_paused = true)]
async fn several_shards_commit_in_two_phases() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.get(k("q"), Locking::SHARED).await.unwrap();
    txn.write(put("i", "2")).await.unwrap();
    txn.write(put("b", "1")).await.unwrap();
    fake.answer(
        "g3 Prepare",
        Ok(Response::Voted(Vote { prepare_ts: Timestamp::from_nanos(77), max_ts: Timestamp::MAX })),
    );
    let max_ts = Timestamp::from_nanos(2_000_000_000);
    fake.answer("g4 Prepare", Ok(Response::Voted(Vote { prepare_ts: Timestamp::ZERO, max_ts })));
    txn.commit().await.unwrap();
    settle().await;
    expect(
        &fake.trace(),
        &[
            "n3 g4 Read t4 S Wait: q",
            "n2 g3 Prepare t4 {i=2} -> b",
            "n3 g4 Prepare t4 r4 {} -> b",
            "n1 g2 Decide t4 {b=1} from 77 max 2000000000 tell [i]",
            "n2 g3 Resolve t4 committed",
            "n3 g4 Resolve t4 committed",
            "n1 g2 Forget t4",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_may_not_come_early_takes_its_timestamp_from_a_window() {
    let (fake, gateway) = warm_cluster().await;
    let (min, max) = (Timestamp::from_nanos(1_500_000_000), Timestamp::from_nanos(2_000_000_000));
    let bounded = || {
        let txn = begin(&gateway);
        txn.raise_commit_timestamp(min);
        txn.raise_commit_timestamp(Timestamp::from_nanos(7));
        txn.limit_commit_timestamp(max);
        txn
    };
    let one = bounded();
    one.write(put("b", "1")).await.unwrap();
    assert!(one.commit().await.unwrap() >= Some(min));
    let two = bounded();
    two.write(put("b", "1")).await.unwrap();
    two.write(put("i", "2")).await.unwrap();
    assert!(two.commit().await.unwrap() >= Some(min));
    settle().await;
    expect(
        &fake.trace(),
        &[
            "n1 g2 Decide t4 {b=1} from 1500000000 max 2000000000 tell []",
            "n1 g2 Forget t4",
            "n2 g3 Prepare t5 {i=2} -> b max 2000000000",
            "n1 g2 Decide t5 {b=1} from 1500000000 max 2000000000 tell [i]",
            "n2 g3 Resolve t5 committed",
            "n1 g2 Forget t5",
        ],
    );
    let late = bounded();
    late.limit_commit_timestamp(min.prev());
    late.write(put("b", "3")).await.unwrap();
    assert_eq!(late.commit().await, Err(retry(RetryReason::NoTimestamp)));
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_is_the_biggest_part_where_none_is_local() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("i", "2")).await.unwrap();
    txn.write(put("q", "somewhat longer")).await.unwrap();
    txn.commit().await.unwrap();
    settle().await;
    assert_eq!((fake.value("i"), fake.value("q")), (Some(v("2")), Some(v("somewhat longer"))));
    expect(
        &fake.trace(),
        &[
            "n2 g3 Prepare t4 {i=2} -> q",
            "n3 g4 Decide t4 {q=somewhat longer} from 5 tell [i]",
            "n2 g3 Resolve t4 committed",
            "n3 g4 Forget t4",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_prepare_aborts_everybody() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    txn.write(put("i", "2")).await.unwrap();
    fake.answer("Prepare", aborted(AbortReason::WouldDeadlock));
    assert_eq!(txn.commit().await, Err(retry(RetryReason::WouldDeadlock)));
    settle().await;
    expect(&fake.trace(), &["n2 g3 Prepare t4 {i=2} -> b", "n2 g3 Resolve t4 aborted", "n1 g2 Rollback t4"]);
    assert_eq!(fake.value("i"), None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_window_aborts() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    txn.write(put("i", "2")).await.unwrap();
    txn.limit_commit_timestamp(Timestamp::from_nanos(4));
    assert_eq!(txn.commit().await, Err(retry(RetryReason::NoTimestamp)));
    settle().await;
    let expected = ["n2 g3 Prepare t4 {i=2} -> b max 4", "n2 g3 Resolve t4 aborted", "n1 g2 Rollback t4"];
    expect(&fake.trace(), &expected);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_and_never_sent_again() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    fake.lose_answer("Commit");
    assert!(txn.commit().await.unwrap().is_some(), "it was carried out");
    let txn = begin(&gateway);
    txn.write(put("b", "2")).await.unwrap();
    fake.lose_request("Commit");
    assert_eq!(txn.commit().await, Err(retry(RetryReason::Recovered)), "it was not");
    assert_eq!(fake.value("b"), Some(v("1")));
    settle().await;
    let found = |t: &str| {
        [
            format!("n1 g2 Commit {t} {{b={}}}", if t == "t4" { 1 } else { 2 }),
            format!("n1 g2 QueryOutcome {t} at b abort=true"),
        ]
    };
    // The hint was dropped with the connection, and this node is the first guess.
    let mut expected: Vec<String> = found("t4").into_iter().chain(found("t5")).collect();
    expected.push("n1 g2 Rollback t5".into());
    assert_eq!(fake.trace().lines().collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_decision_is_asked_for_before_anybody_is_told() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    txn.write(put("i", "2")).await.unwrap();
    fake.answer("Decide", Err(ShardError::OutcomeUnknown));
    fake.answer("QueryOutcome", Ok(Response::Outcome(None)));
    assert_eq!(txn.commit().await, Err(retry(RetryReason::Recovered)));
    settle().await;
    expect(
        &fake.trace(),
        &[
            "n2 g3 Prepare t4 {i=2} -> b",
            "n1 g2 Decide t4 {b=1} from 5 tell [i]",
            "n1 g2 QueryOutcome t4 at b abort=true",
            "n1 g2 QueryOutcome t4 at b abort=true",
            "n2 g3 Resolve t4 aborted",
            "n1 g2 Rollback t4",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nobody_knows_is_ambiguous_and_nobody_is_told() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    txn.write(put("i", "2")).await.unwrap();
    fake.state.lock().last_word = Some("Decide");
    assert_eq!(txn.commit().await, Err(KvError::Ambiguous));
    assert_eq!(fake.value("b"), Some(v("1")), "it did commit");
    settle().await;
    let trace = fake.trace();
    assert!(!trace.contains("Resolve") && !trace.contains("Rollback"), "{trace}");
}

#[tokio::test(start_paused = true)]
async fn big_writes_are_staged_in_chunks() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    write_much(&*txn).await;
    txn.commit().await.unwrap();
    settle().await;
    expect(
        &fake.trace(),
        &[
            "n2 g3 Prepare t4 {i=409600B} -> b1",
            "n1 g2 Stage t4 #0 [b1,b2\\x00) 2 writes",
            "n1 g2 Stage t4 r2 #1 [b3,b4\\x00) 2 writes",
            "n1 g2 Decide t4 r2 2 staged {b5=409600B} from 5 tell [i]",
            "n2 g3 Resolve t4 committed",
            "n1 g2 Forget t4",
        ],
    );
    assert_eq!(fake.value("b1").unwrap().len(), 400 << 10);
}

/// Rows of two shards; those of the first are too big for one message.
async fn write_much(txn: &dyn KvTxn) {
    let big = "x".repeat(400 << 10);
    for key in ["b1", "b2", "b3", "b4", "b5", "i"] {
        txn.write(put(key, &big)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_ahead_is_bounded_by_what_is_known_at_the_commit() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    write_much(&*txn).await;
    txn.send_ahead().await.unwrap();
    let staged = ["n1 g2 Stage t4 #0 [b1,b2\\x00) 2 writes", "n1 g2 Stage t4 r2 #1 [b3,b4\\x00) 2 writes"];
    expect(&fake.trace(), &staged);
    assert!(txn.get(k("b1"), Locking::SHARED).await.is_err(), "it reads nothing more");
    txn.limit_commit_timestamp(Timestamp::from_nanos(9_000_000_000));
    txn.commit().await.unwrap();
    settle().await;
    expect(
        &fake.trace(),
        &[
            "n2 g3 Prepare t4 {i=409600B} -> b1 max 9000000000",
            "n1 g2 Decide t4 r2 2 staged {b5=409600B} from 5 max 9000000000 tell [i]",
            "n2 g3 Resolve t4 committed",
            "n1 g2 Forget t4",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_ahead_of_no_commit_is_rolled_back() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    write_much(&*txn).await;
    txn.send_ahead().await.unwrap();
    fake.trace();
    drop(txn);
    settle().await;
    expect(&fake.trace(), &["n1 g2 Rollback t4"]);
    assert_eq!((fake.value("b1"), fake.value("i")), (None, None));
    let txn = begin(&gateway);
    write_much(&*txn).await;
    fake.answer("Stage", aborted(AbortReason::LocksLost));
    assert_eq!(txn.send_ahead().await, Err(retry(RetryReason::LocksLost)));
    assert_eq!(txn.commit().await, Err(retry(RetryReason::LocksLost)), "it is dead");
}

#[tokio::test(start_paused = true)]
async fn a_blind_commit_follows_a_split_and_one_with_locks_does_not() {
    let (fake, gateway) = warm_cluster().await;
    fake.split(2, "c", 9);
    let txn = begin(&gateway);
    txn.write(put("b", "1")).await.unwrap();
    txn.write(put("d", "2")).await.unwrap();
    // The map is repaired by hand: here the splitter has written it in the meantime.
    let records = vec![descriptor(2, 2, "a", Some("c")), descriptor(9, 2, "c", Some("h"))];
    gateway.publish_descriptors(records).await.unwrap();
    // What the gateway knows is as old as before.
    fake.trace();
    txn.commit().await.unwrap();
    settle().await;
    let trace = fake.trace();
    assert!(trace.contains("g9 Decide") || trace.contains("g9 Prepare"), "{trace}");
    assert_eq!((fake.value("b"), fake.value("d")), (Some(v("1")), Some(v("2"))));

    let txn = begin(&gateway);
    txn.get(k("i"), Locking::SHARED).await.unwrap();
    txn.write(put("j", "1")).await.unwrap();
    txn.write(put("n", "2")).await.unwrap();
    fake.split(3, "m", 10);
    assert_eq!(txn.commit().await, Err(retry(RetryReason::LocksLost)));
}

#[tokio::test(start_paused = true)]
async fn a_changed_registration_kills_the_transaction() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.get(k("i"), Locking::SHARED).await.unwrap();
    fake.state.lock().leaders.insert(group(3), node(3));
    assert_eq!(txn.get(k("j"), Locking::SHARED).await, Err(retry(RetryReason::LocksLost)));
    assert_eq!(txn.write(put("j", "1")).await, Err(retry(RetryReason::LocksLost)), "and stays dead");
    fake.trace();
    drop(txn);
    expect(&fake.trace(), &["n3 g3 Rollback t4"]);
}

#[tokio::test(start_paused = true)]
async fn lock_policies_reach_the_shard_and_nowait_leaves_the_transaction_alive() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    let nowait = Locking { lock: ReadLock::Exclusive, wait: LockWait::NoWait };
    fake.answer("NoWait", Err(ShardError::WouldBlock));
    assert_eq!(txn.get(k("b"), nowait).await, Err(KvError::LockNotAvailable));
    let skip = Locking { lock: ReadLock::Shared, wait: LockWait::SkipLocked };
    txn.get(k("b"), skip).await.unwrap();
    txn.commit().await.unwrap();
    let expected = ["n1 g2 Read t4 X NoWait: b", "n1 g2 Read t4 S SkipLocked: b", "n1 g2 EndReads t4 r2"];
    expect(&fake.trace(), &expected);
}

#[tokio::test(start_paused = true)]
async fn rollback_and_drop_tell_every_shard_that_was_asked() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.multi_get(vec![k("b"), k("i")], Locking::SHARED).await.unwrap();
    fake.trace();
    txn.rollback().await;
    drop(txn);
    expect(&fake.trace(), &["n1 g2 Rollback t4", "n2 g3 Rollback t4"]);
    assert!(gateway.local_transactions(10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn transactions_that_last_are_kept_alive() {
    let (fake, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    txn.get(k("b"), Locking::SHARED).await.unwrap();
    txn.write(put("b", "1")).await.unwrap();
    assert_eq!(gateway.local_transactions(10).len(), 1);
    fake.trace();
    tokio::time::sleep(std::time::Duration::from_millis(3_500)).await;
    let trace = fake.trace();
    assert!((2..=3).contains(&trace.matches("n1 g2 Heartbeat [t4]").count()), "{trace}");
    txn.rollback().await;
    fake.trace();
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    expect(&fake.trace(), &[]);
}

#[tokio::test(start_paused = true)]
async fn sizes_are_limited() {
    let (_, gateway) = warm_cluster().await;
    let txn = begin(&gateway);
    let value = Some(vec![0; meridian_types::limits::VALUE_BYTES_MAX + 1].into());
    let refused = txn.write(vec![KvWrite { key: k("b"), value }]).await;
    assert!(matches!(refused, Err(KvError::TooLarge { what: "value", .. })));
    assert!(gateway.now().is_ok());
}
