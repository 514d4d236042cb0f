//! Advisory locks: between sessions and nodes, through transactions, and when their holder is gone.

use std::time::Duration;

use meridian_catalog::advisory::{AdvisoryLock, Holder, LockOwner, LockRequest, encode_lease};
use meridian_keys::{AdvisoryId, AdvisoryKey, DescriptorId, SystemKey};
use meridian_kv_api::{Kv, KvWrite, ReadWriteOptions};
use meridian_types::{Key, NodeId, Timestamp};

use super::{World, run_block};
use crate::advisory::Wanted;
use crate::session::Session;

async fn run(session: &mut Session, sql: &str) -> String {
    let out = run_block(session, sql).await;
    assert!(!out.contains("ERROR"), "{sql}: {out}");
    out
}

/// Whether a function that tries says that it did.
async fn does(session: &mut Session, call: &str) -> bool {
    let out = run(session, &format!("select {call} as done")).await;
    match out.lines().nth(1) {
        Some("t") => true,
        Some("f") => false,
        _ => panic!("{out}"),
    }
}

async fn shown(session: &mut Session) -> String {
    run(session, "select classid, objid, objsubid, mode, granted from pg_locks order by 1, 2, 3, 4, 5").await
}

#[tokio::test]
async fn one_session_has_a_lock_as_often_as_it_asked() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "select pg_advisory_lock(7)").await;
    assert!(does(&mut a, "pg_try_advisory_lock(7)").await, "it is its own");
    assert!(!does(&mut b, "pg_try_advisory_lock(7)").await);
    assert!(!does(&mut b, "pg_advisory_unlock(7)").await, "it is not its own");
    assert!(does(&mut b, "pg_try_advisory_lock(0, 7)").await, "two numbers are another lock");
    assert!(does(&mut a, "pg_advisory_unlock(7)").await);
    assert!(!does(&mut b, "pg_try_advisory_lock(7)").await, "it was locked twice");
    assert!(does(&mut a, "pg_advisory_unlock(7)").await);
    assert!(!does(&mut a, "pg_advisory_unlock(7)").await);
    assert!(does(&mut b, "pg_try_advisory_lock(7)").await);
    let seen = shown(&mut a).await;
    assert!(seen.contains("0 | 7 | 1 | ExclusiveLock | t\n0 | 7 | 2 | ExclusiveLock | t\n"), "{seen}");
    run(&mut b, "select pg_advisory_unlock_all()").await;
    assert!(shown(&mut a).await.contains("SELECT 0"));
    assert!(run_block(&mut a, "select pg_advisory_lock()").await.contains("42883"));
    assert_eq!(run(&mut a, "select pg_advisory_lock(null)").await.lines().nth(1), Some("NULL"));
}

#[tokio::test]
async fn giving_up_what_one_does_not_have_is_warned_of() {
    let world = World::new().await;
    let mut a = world.session().await;
    let out = run(&mut a, "select pg_advisory_unlock(7)").await;
    assert!(out.contains("f\nWARNING: you don't own a lock of type ExclusiveLock\nSELECT 1"), "{out}");
    let out = run(&mut a, "select pg_advisory_unlock_shared(g) from generate_series(1, 2) g").await;
    assert_eq!(out.matches("WARNING: you don't own a lock of type ShareLock\n").count(), 2, "{out}");
    let out = run(
        &mut a,
        "select pg_advisory_lock(7); select pg_advisory_unlock(7); select pg_advisory_unlock(null)",
    )
    .await;
    assert!(!out.contains("WARNING"), "{out}");
    run(&mut a, "begin; declare c cursor for select pg_advisory_unlock(g) from generate_series(1, 2) g")
        .await;
    assert!(run(&mut a, "fetch 1 from c").await.contains("WARNING"));
    run(&mut a, "rollback; set client_min_messages = error").await;
    assert!(!run(&mut a, "select pg_advisory_unlock(7)").await.contains("WARNING"));
}

#[tokio::test]
async fn shared_locks_keep_only_others_out() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "select pg_advisory_lock_shared(1, 2)").await;
    assert!(does(&mut b, "pg_try_advisory_lock_shared(1, 2)").await);
    assert!(!does(&mut b, "pg_try_advisory_lock(1, 2)").await);
    assert!(does(&mut a, "pg_advisory_unlock_shared(1, 2)").await);
    assert!(does(&mut b, "pg_try_advisory_lock(1, 2)").await, "only itself reads");
    assert!(!does(&mut a, "pg_try_advisory_lock_shared(1, 2)").await);
    run(&mut b, "discard all").await;
    assert!(does(&mut a, "pg_try_advisory_lock(1, 2)").await);
}

#[tokio::test]
async fn a_lock_of_a_transaction_ends_with_it() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    for end in ["commit", "rollback"] {
        run(&mut a, "begin").await;
        run(&mut a, "select pg_advisory_xact_lock(3)").await;
        assert!(!does(&mut b, "pg_try_advisory_lock(3)").await);
        assert!(!does(&mut a, "pg_advisory_unlock(3)").await, "it is not the session's");
        run(&mut a, end).await;
        assert!(does(&mut b, "pg_try_advisory_xact_lock(3)").await, "after {end}");
    }
    run(&mut a, "begin").await;
    run(&mut a, "select pg_advisory_lock(3)").await;
    run(&mut a, "rollback").await;
    assert!(!does(&mut b, "pg_try_advisory_lock(3)").await, "the session has it");
    run(&mut a, "begin").await;
    run(&mut a, "select pg_advisory_xact_lock(4)").await;
    assert!(run_block(&mut a, "select 1 / 0").await.contains("22012"));
    assert!(does(&mut b, "pg_try_advisory_lock(4)").await, "a failed block has nothing any more");
}

#[tokio::test]
async fn a_statement_that_is_run_again_has_its_locks_once() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    // The same is asked for again, and found to be done.
    run(&mut a, "select pg_advisory_lock(6)").await;
    let key = lock_named(&world, 6).await;
    a.locks.run_again();
    let wanted = Wanted { key, is_exclusive: true, is_of_transaction: false };
    let cancel = a.cancel_handle();
    assert!(a.locks.lock(wanted, false, None, &cancel).await.unwrap());
    a.locks.end_transaction().await;
    assert!(!does(&mut b, "pg_try_advisory_lock(6)").await);
    assert!(does(&mut a, "pg_advisory_unlock(6)").await);
    // Given up is given up, also for the attempt that comes after it.
    a.locks.run_again();
    assert!(a.locks.unlock(key, true).await.unwrap());
    a.locks.end_transaction().await;
    assert!(does(&mut b, "pg_try_advisory_lock(6)").await, "it was locked once");
    // What the last attempt did not ask for any more is given up.
    run(&mut a, "select pg_advisory_lock(8)").await;
    a.locks.run_again();
    a.locks.end_transaction().await;
    assert!(does(&mut b, "pg_try_advisory_lock(8)").await);
}

#[tokio::test]
async fn blocks_that_are_run_again_keep_the_locks_of_their_transaction() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (a int primary key)").await;
    for (call, is_hidden) in [("pg_advisory_xact_lock(1)", true), ("pg_advisory_lock(1)", false)] {
        run(&mut a, &format!("begin; select {call}")).await;
        run(&mut a, "insert into t values (1)").await;
        assert!(world.kv.wound(a.attempt_id().unwrap()));
        let out = run_block(&mut a, "insert into t values (2)").await;
        assert_eq!(!out.contains("40001"), is_hidden, "{out}");
        assert!(!does(&mut b, "pg_try_advisory_lock(1)").await, "{call}");
        run(&mut a, "rollback").await;
        assert_eq!(does(&mut b, "pg_try_advisory_lock(1)").await, is_hidden, "{call}");
        run(&mut b, "select pg_advisory_unlock_all()").await;
    }
}

#[tokio::test]
async fn a_session_has_so_many_locks_and_no_more() {
    let world = World::new().await;
    let mut a = world.session().await;
    let out = run_block(&mut a, "select l from generate_series(1, 5000) g, pg_try_advisory_lock(g) l").await;
    assert!(out.contains("53200"), "{out}");
    run(&mut a, "select pg_advisory_unlock_all()").await;
    assert!(shown(&mut a).await.contains("SELECT 0"));
}

#[tokio::test]
async fn who_waits_gets_it_from_who_goes() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "select pg_advisory_lock(5)").await;
    let waiting = tokio::spawn(async move { run(&mut b, "select pg_advisory_lock(5)").await });
    let mut c = world.session().await;
    while !shown(&mut c).await.contains("ExclusiveLock | f") {
        tokio::task::yield_now().await;
    }
    run(&mut c, "set lock_timeout = '1ms'").await;
    assert!(run_block(&mut c, "select pg_advisory_lock(5)").await.contains("55P03"));
    // A session that is gone has nothing, whether it said good-bye or not.
    a.terminate().await;
    let out = waiting.await.unwrap();
    assert!(out.contains("SELECT 1"), "{out}");
    world.factory.shared.locks.tend().await;
    assert_eq!(shown(&mut c).await.matches("ExclusiveLock").count(), 0, "its session is gone, too");
}

#[tokio::test]
async fn a_circle_is_broken() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "select pg_advisory_lock(1)").await;
    run(&mut b, "select pg_advisory_lock(2)").await;
    let first = tokio::spawn(async move { run_block(&mut a, "select pg_advisory_lock(2)").await });
    let second = run_block(&mut b, "select pg_advisory_lock(1)").await;
    assert!(second.contains("40P01"), "the later session gives up: {second}");
    run(&mut b, "select pg_advisory_unlock_all()").await;
    assert!(!first.await.unwrap().contains("ERROR"));
}

async fn lock_named(world: &World, n: i64) -> AdvisoryKey {
    let catalog = world.factory.shared.catalog.acquire().await.unwrap();
    let database = catalog.snapshot().database("defaultdb").unwrap().id;
    AdvisoryKey { database: DescriptorId::new(u64::from(database.0)), id: AdvisoryId::One(n) }
}

async fn put(world: &World, key: Key, value: bytes::Bytes) {
    let txn = world.kv.begin(ReadWriteOptions::default());
    txn.write(vec![KvWrite { key, value: Some(value) }]).await.unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn the_locks_of_a_dead_node_are_free_and_not_before() {
    let world = World::new().await;
    let mut s = world.session().await;
    let key = lock_named(&world, 9).await;
    let holder = Holder { node: NodeId::new(77), start: Timestamp::from_nanos(5) };
    let mut lock = AdvisoryLock::default();
    let owner = LockOwner { holder, session: 1 };
    assert!(lock.request(LockRequest { owner, is_exclusive: true, is_granted: false, number: 1, pid: 0 }));
    let lease = SystemKey::LockHolder { node: holder.node, start: holder.start }.encode();
    let end = world.kv.now().unwrap().latest() + Duration::from_millis(400).into();
    put(&world, lease, encode_lease(end)).await;
    // Its first lock lets a node look at what others have left.
    run(&mut s, "select pg_advisory_lock(1)").await;
    put(&world, SystemKey::AdvisoryLock(key).encode(), lock.encode().unwrap()).await;
    assert!(!does(&mut s, "pg_try_advisory_lock(9)").await, "its lease is not over");
    run(&mut s, "select pg_advisory_lock(9)").await;
    assert!(world.kv.now().unwrap().latest() > end, "it was waited for");
}
