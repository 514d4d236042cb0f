//! Locks that are released when the commit is proposed: what dependants see, and when they are answered.

use super::*;

impl Shard {
    /// The data engine tells nothing from here on, so that what is proposed stays in flight.
    fn hold(&mut self) {
        self.held = Some(Slot::ZERO);
    }

    fn let_go(&mut self) {
        let applied = self.held.take().expect("it was held");
        self.step(Input::Applied(applied));
    }

    fn begin_commit(&mut self, txn: TxnRef, writes: Vec<Write>) -> RequestId {
        self.ask(Request::Commit { txn, writes, staged_chunks: 0, max_ts: Timestamp::MAX })
    }

    /// A transaction that has read a key under an exclusive lock, and what it read.
    fn reads(&mut self, age: u64, k: &str) -> (TxnRef, Option<Bytes>) {
        let id = self.lock(blind(age), LockMode::Exclusive, get(k));
        let (mut results, registration) = self.locked(id);
        let ReadResult::Value(value) = results.remove(0) else { panic!("a key has one value") };
        (TxnRef { id: txn(age), registration: Some(registration) }, value)
    }

    fn committed(&mut self, id: RequestId) -> Timestamp {
        match self.answer(id) {
            Ok(Response::Committed { commit_ts }) => commit_ts,
            other => panic!("a commit was answered with {other:?}"),
        }
    }

    fn pass_commit_wait(&mut self) {
        self.pass(Duration::from_millis(20));
    }
}

#[test]
fn the_next_in_line_reads_what_is_proposed_and_commits_above_it() {
    let mut shard = Shard::new();
    shard.hold();
    let mut commits = Vec::new();
    for n in 0..50u64 {
        let (txn, value) = shard.reads(100 - n, "a");
        let expected = n.checked_sub(1).map(|before| Bytes::from(before.to_string()));
        assert_eq!(value, expected, "the version of whoever had the lock before");
        commits.push(shard.begin_commit(txn, vec![put("a", &n.to_string())]));
    }
    shard.pass_commit_wait();
    assert!(shard.answers.is_empty(), "nobody is answered before the data engine has what was chosen");
    assert_eq!(shard.strong("a").0, None, "reads without locks see what is applied");
    shard.let_go();
    let at: Vec<Timestamp> = commits.into_iter().map(|id| shard.committed(id)).collect();
    assert!(at.is_sorted_by(|a, b| a < b), "every one above the one before");
    assert_eq!(shard.strong("a"), (Some(Bytes::from_static(b"49")), at[49]));
}

#[test]
fn a_queue_of_commits_is_worked_off_at_once() {
    let mut shard = Shard::new();
    let (first, _) = shard.reads(1, "a");
    let blind_writes: Vec<RequestId> =
        (2..500).map(|age| shard.begin_commit(blind(age), vec![put("a", &age.to_string())])).collect();
    let held: Vec<TxnId> = shard.replica.locks().into_iter().filter(|l| l.granted).map(|l| l.txn).collect();
    assert_eq!(held, vec![txn(1)]);
    shard.begin_commit(first, vec![put("a", "1")]);
    assert_eq!(shard.replica.locks(), vec![], "one step lets all of them go on");
    shard.pass_commit_wait();
    let mut at: Vec<Timestamp> = blind_writes.into_iter().map(|id| shard.committed(id)).collect();
    at.sort_unstable();
    at.dedup();
    assert_eq!(at.len(), 498);
    assert_eq!(shard.strong("a").1, at[497]);
}

#[test]
fn what_ends_without_an_entry_waits_for_what_it_has_read() {
    let mut shard = Shard::new();
    shard.hold();
    let (writer, _) = shard.reads(1, "a");
    let write = shard.begin_commit(writer, vec![put("a", "1")]);
    let (ends, seen) = shard.reads(2, "a");
    assert_eq!(seen.as_deref(), Some(&b"1"[..]));
    let ended = shard.ask(Request::EndReads { txn: ends });
    shard.pass_commit_wait();
    assert!(!shard.answers.contains_key(&ended), "its client would believe what may still be lost");
    // Whoever has read nothing of it does not wait.
    let (stranger, _) = shard.reads(3, "b");
    let done = shard.ask(Request::EndReads { txn: stranger });
    assert_eq!(shard.answer(done), Ok(Response::Done));
    shard.let_go();
    assert_eq!(shard.answer(ended), Ok(Response::Done));
    let s = shard.committed(write);

    shard.hold();
    let (writer, _) = shard.reads(4, "a");
    let write = shard.begin_commit(writer, vec![put("a", "2")]);
    let (votes, _) = shard.reads(5, "a");
    let prepare = Request::Prepare {
        txn: votes,
        writes: vec![],
        staged_chunks: 0,
        coordinator: key("zz"),
        max_ts: Timestamp::MAX,
    };
    let voted = shard.ask(prepare);
    shard.pass_commit_wait();
    assert!(!shard.answers.contains_key(&voted), "it would commit elsewhere on what may still be lost");
    shard.let_go();
    let s2 = shard.committed(write);
    assert!(s2 > s);
    let Ok(Response::Voted(vote)) = shard.answer(voted) else { panic!("it has voted") };
    assert!(vote.prepare_ts > s2);
    let outcome = Outcome::Aborted;
    assert_eq!(shard.call(Request::Resolve { id: votes.id, outcome, key: None }), Ok(Response::Done));

    // A commit that wrote nothing.
    shard.hold();
    let (writer, _) = shard.reads(6, "a");
    let write = shard.begin_commit(writer, vec![put("a", "3")]);
    let (reader, _) = shard.reads(7, "a");
    let nothing = shard.begin_commit(reader, vec![]);
    shard.pass_commit_wait();
    assert!(!shard.answers.contains_key(&nothing));
    shard.let_go();
    assert_eq!(shard.committed(nothing), shard.committed(write));
}

#[test]
fn a_wounded_dependant_that_waits_is_told() {
    let mut shard = Shard::new();
    shard.hold();
    let (writer, _) = shard.reads(1, "a");
    let write = shard.begin_commit(writer, vec![put("a", "1")]);
    let (ends, _) = shard.reads(20, "a");
    let ended = shard.ask(Request::EndReads { txn: ends });
    let (_, seen) = shard.reads(10, "a");
    assert_eq!(seen.as_deref(), Some(&b"1"[..]));
    shard.pass_commit_wait();
    shard.let_go();
    shard.committed(write);
    assert_eq!(shard.answer(ended), Err(aborted(AbortReason::LocksLost)));
}

#[test]
fn scans_wait_and_skip_locked_passes_over() {
    let mut shard = Shard::new();
    shard.commit(blind(1), vec![put("a", "1"), put("c", "3")]).unwrap();
    shard.hold();
    let gone = Write { key: key("a"), value: None };
    let write = shard.begin_commit(blind(2), vec![gone, put("b", "2")]);
    let skips = Request::Read {
        mode: ReadMode::Locking { txn: blind(3), mode: LockMode::Exclusive, wait: WaitPolicy::SkipLocked },
        ops: vec![scan("a", "z")],
    };
    let skips = shard.ask(skips);
    let (results, _) = shard.locked(skips);
    let rows = vec![(key("c"), Bytes::from_static(b"3"))];
    assert_eq!(results, vec![ReadResult::Rows { rows, resume: None }]);
    assert_eq!(shard.call(Request::Rollback { id: txn(3) }), Ok(Response::Done));

    let scans = shard.lock(blind(4), LockMode::Shared, vec![scan("a", "z")]);
    let elsewhere = shard.lock(blind(5), LockMode::Shared, vec![scan("x", "z")]);
    shard.pass_commit_wait();
    assert!(!shard.answers.contains_key(&scans));
    shard.locked(elsewhere);
    shard.let_go();
    shard.committed(write);
    let (results, _) = shard.locked(scans);
    let rows = vec![(key("b"), Bytes::from_static(b"2")), (key("c"), Bytes::from_static(b"3"))];
    assert_eq!(results, vec![ReadResult::Rows { rows, resume: None }]);
}

#[test]
fn large_and_staged_commits_keep_their_locks() {
    let mut shard = Shard::new();
    shard.hold();
    let many: Vec<Write> = (0..65).map(|n| put(&format!("m{n}"), "1")).collect();
    let large = shard.begin_commit(blind(1), many);
    assert_eq!(shard.replica.locks().len(), 65);
    shard.pass_commit_wait();
    shard.let_go();
    shard.committed(large);
    assert_eq!(shard.replica.locks(), vec![]);
}

/// The log of a leader with a hole, as a successor finds and fills it.
#[test]
fn behind_a_filled_hole_nothing_of_the_earlier_leader_counts() {
    let engine = MemoryEngine::new();
    engine.write(initial_state(&descriptor(), Timestamp::ZERO, true), Durability::Synced).unwrap();
    let mut first = Shard::new();
    first.commit(blind(1), vec![put("a", "1")]).unwrap();
    first.hold();
    let (t1, _) = first.reads(2, "a");
    first.begin_commit(t1, vec![put("a", "2")]);
    let (t2, _) = first.reads(3, "a");
    first.begin_commit(t2, vec![put("b", "2")]);
    // Its log without the entry of T1: what a quorum may have kept.
    let mut recovered = recover(&engine, GROUP).unwrap().unwrap();
    recovered.entries = first.log.values().cloned().collect();
    let lost = recovered.entries.len() - 2;
    assert!(recovered.entries[lost..].iter().all(|e| matches!(e.command, Command::Normal(_))));
    let hole = recovered.entries.remove(lost).slot;
    recovered.hard = HardState { commit: Slot::new(hole.get() - 1), ..first.hard.clone() };
    let mut second = Shard::restarted(engine, recovered);
    assert_eq!(second.strong("a").0.as_deref(), Some(&b"1"[..]), "what came before the hole stands");
    assert_eq!(second.strong("b").0, None, "it had read what was lost");
    let query = Request::QueryOutcome { id: txn(3), key: key("b"), abort_unknown: true };
    assert_eq!(second.call(query), Ok(Response::Outcome(Some(Outcome::Aborted))));
    assert!(second.commit(blind(4), vec![put("b", "3")]).is_ok(), "the next leader's epoch is its own");
}

/// A statement of a block has timed out, a savepoint has brought the block back, and the cancellation is on its way still.
#[test]
fn a_transaction_commits_although_a_read_of_its_own_waits() {
    let mut shard = Shard::new();
    let (holder, _) = shard.reads(10, "a");
    let (txn, _) = shard.reads(20, "b");
    let given_up = shard.lock(txn, LockMode::Exclusive, get("a"));
    let (hot, behind) =
        (shard.begin_commit(txn, vec![put("b", "1")]), shard.lock(blind(30), LockMode::Exclusive, get("b")));
    assert_eq!(shard.answer(given_up), Err(aborted(AbortReason::LocksLost)));
    shard.pass_commit_wait();
    shard.committed(hot);
    shard.locked(behind);
    shard.commit(holder, vec![put("a", "2")]).unwrap();
    assert_eq!(shard.strong("a").0, Some(Bytes::from_static(b"2")));
}
