//! Strict serializability with known commit timestamps.
//!
//! Every written value is unique, so a version names its transaction. The truth is what the engines hold in the end:
//!
//! - every replica that has applied a group through the same slot holds the same bytes (I-6);
//! - a transaction is there with all of its writes at one timestamp, or with none (atomicity);
//! - an acknowledged commit is there, at the timestamp that was told, and an aborted one is not (I-9);
//! - a read at `t` saw the newest version at or below `t`; a locking read of a transaction that committed at `s` saw the
//!   newest version below `s` (I-8);
//! - a commit that began after another one was answered has a greater timestamp (I-7);
//! - a read at the present that began after a version was answered, or shown to any other read, sees it (I-7);
//! - nothing is left prepared or staged.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_types::{GroupId, Key, NodeId, Slot, Timestamp, TxnId};

/// What a gateway knows of an operation in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    Committed(Timestamp),
    Aborted,
    Unknown,
}

/// One operation of the history.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A read-write transaction.
    Write {
        txn: TxnId,
        begin: Timestamp,
        end: Timestamp,
        known: Known,
        reads: Observed,
        writes: Vec<(Key, Bytes)>,
        /// The version of the catalog that it was planned on, where the schema changes.
        planned: Option<u64>,
    },
    /// A lock-free read at `at`. `is_present` when it promises to see all that was answered before it began.
    Read { begin: Timestamp, end: Timestamp, at: Timestamp, is_present: bool, reads: Observed },
}

pub(super) type Observed = Vec<(Key, Option<Bytes>)>;

/// The versions of each key, ascending by timestamp.
pub(super) type Truth = BTreeMap<Key, Vec<(Timestamp, Option<Bytes>)>>;

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// An assertion inside the core failed.
    Assertion {
        /// Its message.
        message: String,
    },
    /// I-1: absolute time is not in the interval of a clock that nothing disturbed beyond its bounds.
    WrongClock {
        /// Whose.
        node: NodeId,
    },
    /// A clock whose oscillator went bad goes on being wrong and sure of itself.
    UnnoticedClock {
        /// Whose.
        node: NodeId,
    },
    /// I-4: two nodes hold the lease of a group at one moment.
    TwoLeaders {
        /// The group.
        group: GroupId,
        /// The nodes.
        nodes: (NodeId, NodeId),
    },
    /// I-5: a timestamp is not above those assigned before in its group.
    TimestampWentBack {
        /// The group.
        group: GroupId,
        /// Who had assigned more, and who assigned.
        nodes: (NodeId, NodeId),
        /// Assigned before.
        before: Timestamp,
        /// Assigned.
        own: Timestamp,
    },
    /// I-3: an accept is acknowledged that is not durable.
    NotDurable {
        /// The group.
        group: GroupId,
        /// Who has acknowledged it.
        node: NodeId,
        /// Which slot.
        slot: Slot,
    },
    /// A change of members is answered that too few of the new members would know after a restart.
    UnknownChange {
        /// The group.
        group: GroupId,
        /// Who has answered.
        node: NodeId,
        /// Where the members are in the log.
        since: Slot,
    },
    /// A witness drops an entry that too few voters have.
    WitnessForgot {
        /// The group.
        group: GroupId,
        /// The witness.
        node: NodeId,
        /// Which entry.
        slot: Slot,
    },
    /// I-5: a timestamp is outside of its lease.
    OutsideOfLease {
        /// The group.
        group: GroupId,
        /// Who assigned it.
        node: NodeId,
        /// What.
        assigned: Timestamp,
        /// The end of the lease.
        lease_end: Timestamp,
    },
    /// I-2, I-6: one slot does different things on two nodes.
    EffectsDiffer {
        /// The group.
        group: GroupId,
        /// Where.
        slot: Slot,
        /// The nodes.
        nodes: (NodeId, NodeId),
    },
    /// Equal prefixes of the log gave different bytes.
    ReplicasDiffer {
        /// The group.
        group: GroupId,
        /// Applied through this slot on both.
        slot: Slot,
        /// The nodes.
        nodes: (NodeId, NodeId),
    },
    /// A transaction is there in part, or at several timestamps.
    NotAtomic {
        /// Which.
        txn: TxnId,
    },
    /// An acknowledged commit is not there.
    Lost {
        /// Which.
        txn: TxnId,
        /// Told.
        commit_ts: Timestamp,
    },
    /// An aborted transaction is there.
    Undead {
        /// Which.
        txn: TxnId,
    },
    /// A read did not see the newest version at or below its timestamp.
    WrongRead {
        /// Of this key.
        key: Key,
        /// At (for locking reads, just below the commit).
        at: Timestamp,
        /// Saw.
        saw: Option<Bytes>,
        /// Should have seen.
        truth: Option<Bytes>,
    },
    /// A commit is outside of the time in which what it was planned on was in force.
    WrongVersion {
        /// Which.
        txn: TxnId,
        /// Committed at.
        at: Timestamp,
        /// Planned on this version of the catalog.
        version: u64,
    },
    /// A public index has not the entries of the rows.
    IndexDiffers {
        /// Which entry.
        entry: Key,
        /// At this timestamp.
        at: Timestamp,
        /// It is not there; or it is, and no row has it.
        is_missing: bool,
    },
    /// A later operation has an earlier timestamp.
    RealTime {
        /// Answered with this timestamp before the other began.
        earlier: Timestamp,
        /// The other's.
        later: Timestamp,
    },
    /// Something is prepared, staged or locked for ever.
    Undecided {
        /// In this group.
        group: GroupId,
        /// On this node.
        node: NodeId,
        /// This many transactions.
        count: usize,
    },
    /// Nothing works although nothing is broken any more.
    Stuck {
        /// The group without a serving leader.
        group: GroupId,
    },
    /// A member has not caught up although nothing is broken any more.
    LeftBehind {
        /// The group.
        group: GroupId,
        /// The member.
        node: NodeId,
    },
    /// A node keeps a replica of a group that it is no member of, although nothing is broken any more.
    NotRemoved {
        /// The group.
        group: GroupId,
        /// The node.
        node: NodeId,
    },
    /// A gateway hangs although nothing is broken any more.
    Hanging {
        /// Which.
        client: usize,
    },
    /// Time stands still: events without end at one moment.
    Spinning,
}

fn version_at(truth: &Truth, key: &Key, at: Timestamp) -> Option<Bytes> {
    let versions = truth.get(key)?;
    let below = versions.partition_point(|(s, _)| *s <= at);
    versions[..below].last().and_then(|(_, value)| value.clone())
}

fn check_reads(truth: &Truth, reads: &Observed, at: Timestamp) -> Result<(), Broken> {
    for (key, saw) in reads {
        let expected = version_at(truth, key, at);
        if *saw != expected {
            return Err(Broken::WrongRead { key: key.clone(), at, saw: saw.clone(), truth: expected });
        }
    }
    Ok(())
}

/// When a transaction's writes are there: all at one timestamp, or none.
pub(super) fn found_at(
    truth: &Truth,
    txn: TxnId,
    writes: &[(Key, Bytes)],
) -> Result<Option<Timestamp>, Broken> {
    let mut found: Option<Option<Timestamp>> = None;
    for (key, value) in writes {
        let versions = truth.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut at = versions.iter().filter(|(_, v)| v.as_ref() == Some(value)).map(|(s, _)| *s);
        let (s, twice) = (at.next(), at.next());
        if twice.is_some() || found.is_some_and(|f| f != s) {
            return Err(Broken::NotAtomic { txn });
        }
        found = Some(s);
    }
    Ok(found.flatten())
}

/// What was known by when, and what began when, as (moment, timestamp).
#[derive(Default)]
struct Order {
    known: Vec<(Timestamp, Timestamp)>,
    began: Vec<(Timestamp, Timestamp)>,
}

impl Order {
    /// Whoever began after a timestamp was known must have one that is at least as great, or greater where `is_strict`.
    fn check(mut self, is_strict: bool) -> Result<(), Broken> {
        self.known.sort();
        self.began.sort();
        let mut newest = Timestamp::ZERO;
        let mut known = self.known.into_iter().peekable();
        for (begin, ts) in self.began {
            while let Some((_, s)) = known.next_if(|(end, _)| *end < begin) {
                newest = newest.max(s);
            }
            if newest > ts || (is_strict && newest == ts) {
                return Err(Broken::RealTime { earlier: newest, later: ts });
            }
        }
        Ok(())
    }
}

/// The timestamp of the version of `key` that a read at `at` sees.
fn version_seen(truth: &Truth, key: &Key, at: Timestamp) -> Option<Timestamp> {
    let versions = truth.get(key)?;
    let below = versions.partition_point(|(s, _)| *s <= at);
    versions[..below].last().map(|(s, _)| *s)
}

/// Checks a history against the truth. Where the clocks are void, the order of timestamps is owed to nobody, nor is what
/// lock-free reads see; atomicity and durability are.
pub(super) fn check(history: &[Op], truth: &Truth, clocks_are_void: bool) -> Result<(), Broken> {
    let mut commits = Order::default();
    let mut by_key: BTreeMap<&Key, Order> = BTreeMap::new();
    for op in history {
        match op {
            Op::Read { .. } if clocks_are_void => {}
            Op::Read { begin, end, at, is_present, reads } => {
                check_reads(truth, reads, *at)?;
                for (key, _) in reads {
                    let order = by_key.entry(key).or_default();
                    order.known.extend(version_seen(truth, key, *at).map(|s| (*end, s)));
                    if *is_present {
                        order.began.push((*begin, *at));
                    }
                }
            }
            Op::Write { txn, begin, end, known, reads, writes, .. } => {
                let found = found_at(truth, *txn, writes)?;
                match (known, found) {
                    (Known::Committed(s), found) if found != Some(*s) => {
                        return Err(Broken::Lost { txn: *txn, commit_ts: *s });
                    }
                    (Known::Aborted, Some(_)) => return Err(Broken::Undead { txn: *txn }),
                    _ => {}
                }
                if let Some(s) = found.filter(|_| !clocks_are_void) {
                    check_reads(truth, reads, s.prev())?;
                    commits.began.push((*begin, s));
                }
                if let Known::Committed(s) = known
                    && !clocks_are_void
                {
                    commits.known.push((*end, *s));
                    for (key, _) in writes {
                        by_key.entry(key).or_default().known.push((*end, *s));
                    }
                }
            }
        }
    }
    commits.check(true)?;
    by_key.into_values().try_for_each(|order| order.check(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Timestamp {
        Timestamp::from_nanos(n)
    }

    fn key() -> Key {
        Key::copy_from(b"k")
    }

    fn value(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    fn txn(seq: u64) -> TxnId {
        TxnId { first_start: at(1), node: NodeId::new(1), seq }
    }

    fn write(seq: u64, begin: u64, end: u64, known: Known, saw: Option<u8>) -> Op {
        let reads = vec![(key(), saw.map(value))];
        let writes = vec![(key(), value(seq as u8))];
        Op::Write { txn: txn(seq), begin: at(begin), end: at(end), known, reads, writes, planned: None }
    }

    fn read(begin: u64, t: u64, saw: Option<u8>) -> Op {
        Op::Read {
            begin: at(begin),
            end: at(begin + 1),
            at: at(t),
            is_present: true,
            reads: vec![(key(), saw.map(value))],
        }
    }

    fn truth(versions: &[(u64, u8)]) -> Truth {
        let versions = versions.iter().map(|(s, v)| (at(*s), Some(value(*v)))).collect();
        Truth::from([(key(), versions)])
    }

    /// Histories known to be right or wrong: the checker must tell them apart.
    #[test]
    fn verdicts() {
        let committed = |s| Known::Committed(at(s));
        let first = write(1, 5, 12, committed(10), None);
        let both = truth(&[(10, 1), (20, 2)]);
        let check = |ops: Vec<Op>, truth: &Truth| check(&ops, truth, false);
        assert_eq!(check(vec![first.clone(), write(2, 13, 22, committed(20), Some(1))], &both), Ok(()));
        assert_eq!(check(vec![read(13, 15, Some(1)), first.clone()], &both), Ok(()));
        assert!(matches!(check(vec![read(1, 15, None)], &both), Err(Broken::WrongRead { .. })), "stale");
        assert!(
            matches!(check(vec![read(1, 15, Some(2))], &both), Err(Broken::WrongRead { .. })),
            "from the future"
        );
        let lost_update = write(2, 6, 22, committed(20), None);
        assert!(matches!(check(vec![first.clone(), lost_update], &both), Err(Broken::WrongRead { .. })));
        assert!(matches!(check(vec![first.clone()], &truth(&[])), Err(Broken::Lost { .. })));
        let undead = write(1, 5, 12, Known::Aborted, None);
        assert!(matches!(check(vec![undead], &both), Err(Broken::Undead { .. })));
        let late = write(2, 5, 12, committed(20), Some(1));
        let reversed = vec![late, write(1, 13, 30, committed(10), None)];
        assert!(matches!(check(reversed, &both), Err(Broken::RealTime { .. })));
        let inverted = vec![read(2, 15, Some(1)), read(4, 9, None)];
        assert!(
            matches!(check(inverted, &both), Err(Broken::RealTime { .. })),
            "a version was seen and then not"
        );
        let missed = vec![first, read(13, 9, None)];
        assert!(
            matches!(check(missed, &both), Err(Broken::RealTime { .. })),
            "a read at the present came too early"
        );
        let unknown = write(2, 13, 22, Known::Unknown, Some(1));
        assert_eq!(check(vec![unknown.clone()], &both), Ok(()));
        assert_eq!(check(vec![unknown], &truth(&[(10, 1)])), Ok(()), "it may be there or not");
        let torn = Op::Write {
            txn: txn(1),
            begin: at(1),
            end: at(2),
            known: Known::Unknown,
            reads: vec![],
            writes: vec![(key(), value(1)), (Key::copy_from(b"other"), value(1))],
            planned: None,
        };
        assert_eq!(check(vec![torn], &both), Err(Broken::NotAtomic { txn: txn(1) }));
    }
}
