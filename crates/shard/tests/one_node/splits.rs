//! Splits: what becomes of locks, of who waits for them, and of who asks on an old map.

use super::*;

impl Shard {
    /// The log's disk tells nothing from here on, so that what is proposed is not chosen.
    fn hold_log(&mut self) {
        self.held_log = Some(None);
    }

    fn let_log_go(&mut self) {
        let token = self.held_log.take().expect("it was held").expect("something was written");
        self.step(Input::Persisted(token));
    }

    fn is_wrong_shard(&mut self, id: RequestId) -> bool {
        matches!(self.answer(id), Err(ShardError::WrongShard { .. }))
    }
}

#[test]
fn a_split_creates_the_right_half_and_redirects() {
    let mut shard = Shard::new();
    shard.commit(blind(1), vec![put("a", "1"), put("x", "2")]).unwrap();
    let left = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    let right = shard.lock(blind(11), LockMode::Exclusive, get("x"));
    shard.locked(left);
    shard.locked(right);
    let waiting = shard.lock(blind(12), LockMode::Exclusive, get("x"));
    let split = shard.call(Request::Split { at: key("m"), new_group: GroupId::new(8) });
    let Ok(Response::Split { left, right }) = split else { panic!("{split:?}") };
    assert_eq!(left.span, Span::new(Key::MIN, Some(key("m"))));
    assert_eq!(right.span, Span::new(key("m"), None));
    assert_eq!(shard.created.len(), 1);
    assert!(shard.created[0].campaign && shard.created[0].descriptor == right);
    let holders: Vec<TxnId> = shard.replica.locks().into_iter().map(|l| l.txn).collect();
    assert_eq!(holders, vec![txn(10)]);
    // It got its lock when the holder lost it, and lost it likewise.
    let (_, lost) = shard.locked(waiting);
    let reads = TxnRef { id: txn(12), registration: Some(lost) };
    assert_eq!(shard.call(Request::EndReads { txn: reads }), Err(aborted(AbortReason::LocksLost)));
    let beyond = shard.call(Request::Read { mode: ReadMode::Strong, ops: get("x") });
    let elsewhere = Err(ShardError::WrongShard { descriptor: left });
    assert_eq!(beyond, elsewhere);
    // Whoever asks on an old map must not hear that all is done (I-9).
    let (id, outcome) = (txn(99), Outcome::Aborted);
    let resolve = |key| Request::Resolve { id, outcome, key: Some(key) };
    assert_eq!(shard.call(resolve(key("x"))), elsewhere);
    assert_eq!(shard.call(resolve(key("a"))), Ok(Response::Done));
    assert_eq!(shard.call(Request::Resolve { id, outcome, key: None }), Ok(Response::Done));
    assert_eq!(shard.call(Request::Forget { id, key: key("x") }), elsewhere);
    assert_eq!(shard.call(Request::Forget { id, key: key("a") }), Ok(Response::Done));
    let recovered = recover(&shard.engine, GroupId::new(8)).unwrap().unwrap();
    assert_eq!(recovered.descriptor, right);
    assert_eq!(recovered.applied, Slot::ZERO);
    let floor = shard.created[0].floor;
    assert!(recovered.floor == floor && floor >= recovered.last_commit);
}

#[test]
fn nobody_locks_what_a_split_that_is_on_its_way_takes() {
    let mut shard = Shard::new();
    shard.commit(blind(1), vec![put("a", "1"), put("x", "2")]).unwrap();
    shard.hold_log();
    let split = shard.ask(Request::Split { at: key("m"), new_group: GroupId::new(8) });
    let left = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    let right = shard.lock(blind(11), LockMode::Exclusive, get("x"));
    let both = shard.lock(blind(12), LockMode::Shared, vec![ReadOp::Get(key("b")), ReadOp::Get(key("x"))]);
    let (_, registration) = shard.locked(left);
    assert!(shard.answers.is_empty(), "the right half's next leader knows nothing of locks here");
    shard.let_log_go();
    assert!(matches!(shard.answer(split), Ok(Response::Split { .. })));
    shard.pass(Duration::from_millis(20));
    assert!(shard.is_wrong_shard(right) && shard.is_wrong_shard(both));
    let reads = TxnRef { id: txn(10), registration: Some(registration) };
    assert_eq!(shard.call(Request::EndReads { txn: reads }), Ok(Response::Done));
    assert!(shard.replica.locks().is_empty());
}

/// A scan waits for a key that stays, and wants what goes, too; another waits behind it.
#[test]
fn who_waits_across_a_split_gets_no_lock_beyond_it() {
    let mut shard = Shard::new();
    let holds = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    let (_, registration) = shard.locked(holds);
    let scan = shard.lock(blind(20), LockMode::Exclusive, vec![scan("a", "z")]);
    let behind = shard.lock(blind(30), LockMode::Exclusive, get("x"));
    assert!(shard.answers.is_empty(), "both wait");
    let split = shard.ask(Request::Split { at: key("m"), new_group: GroupId::new(8) });
    assert!(matches!(shard.answer(split), Ok(Response::Split { .. })));
    let reads = TxnRef { id: txn(10), registration: Some(registration) };
    assert_eq!(shard.call(Request::EndReads { txn: reads }), Ok(Response::Done));
    shard.pass(Duration::from_millis(20));
    assert!(shard.is_wrong_shard(scan));
    // The end of the other's wait gave it the lock for a moment, which it has lost to the split.
    assert_eq!(shard.answer(behind), Err(aborted(AbortReason::LocksLost)));
    assert!(shard.replica.locks().is_empty());
}
