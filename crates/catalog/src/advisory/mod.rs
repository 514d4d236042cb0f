//! Advisory locks: who has them, who waits for them, and when who waits may go on (docs/decisions/0021).
//!
//! A lock is a row of the system keyspace with the requests for it, in their order. It outlives transactions, changes of
//! leadership and restarts of whoever leads it, because it is data. What makes it end with the node that holds it is the
//! *holder*: an incarnation of a node, named by the node and the moment at which it began, with a lease. A holder extends
//! its lease while it lasts and never afterwards, so that one that was once seen to be over is over for good.
//!
//! ```text
//!   request --nobody in the way--> granted --unlock, end of transaction or session, end of the holder's lease--> gone
//!      |                              ^
//!      +---- waiting -----------------+
//! ```
//! Invariants: of two granted requests of different owners none is exclusive; a request is not granted past an earlier
//! one of somebody else that it conflicts with, unless its owner has the lock in another mode already.
//!
//! The module knows records and rules. Who writes them, and when, is the session's business.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_types::{NodeId, Timestamp};

/// An incarnation of a node, as far as advisory locks go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder {
    /// Which node.
    pub node: NodeId,
    /// When it began.
    pub start: Timestamp,
}

/// A session that asks for locks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LockOwner {
    /// Whose session it is.
    pub holder: Holder,
    /// Which session.
    pub session: u64,
}

/// A session's request for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockRequest {
    /// Who.
    pub owner: LockOwner,
    /// Nobody else may have the lock.
    pub is_exclusive: bool,
    /// It has the lock.
    pub is_granted: bool,
    /// Counts the session's requests, so that giving an earlier one up, late, does not take this one with it.
    pub number: u64,
    /// The number by which the session's clients know it.
    pub pid: i32,
}

impl LockRequest {
    fn is_same(&self, other: &LockRequest) -> bool {
        let named = |r: &LockRequest| (r.owner, r.is_exclusive, r.number);
        named(self) == named(other)
    }

    fn conflicts_with(&self, other: &LockRequest) -> bool {
        self.owner != other.owner && (self.is_exclusive || other.is_exclusive)
    }
}

/// A row that is no advisory lock.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an advisory lock can't be read: {0}")]
pub struct UnreadableLock(#[from] prost::DecodeError);

/// The requests for one lock, in their order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AdvisoryLock {
    requests: Vec<LockRequest>,
}

impl AdvisoryLock {
    /// Reads a row; no row is a lock that nobody wants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(row: Option<&[u8]>) -> Result<Self, UnreadableLock> {
        row.map_or(Ok(AdvisoryLock::default()), |row| Ok(codec::decode(row)?))
    }

    /// The row; `None` where nobody wants the lock any more.
    pub fn encode(&self) -> Option<Bytes> {
        (!self.requests.is_empty()).then(|| codec::encode(self))
    }

    /// All requests.
    pub fn requests(&self) -> &[LockRequest] {
        &self.requests
    }

    /// The holders of the sessions that ask.
    pub fn holders(&self) -> BTreeSet<Holder> {
        self.requests.iter().map(|r| r.owner.holder).collect()
    }

    /// Forgets the requests of holders that are over.
    pub fn retain(&mut self, is_alive: impl Fn(&Holder) -> bool) {
        self.requests.retain(|r| is_alive(&r.owner.holder));
        self.grant();
    }

    /// Asks for the lock, or looks again. True when the owner has it.
    pub fn request(&mut self, wanted: LockRequest) -> bool {
        let is_same = |r: &LockRequest| r.owner == wanted.owner && r.is_exclusive == wanted.is_exclusive;
        match self.requests.iter_mut().find(|r| is_same(r)) {
            // What the owner has not been able to give up yet is its again.
            Some(known) => known.number = wanted.number,
            None => self.requests.push(LockRequest { is_granted: false, ..wanted }),
        }
        self.grant();
        self.grants(&wanted)
    }

    /// Whether a request has been granted.
    pub fn grants(&self, wanted: &LockRequest) -> bool {
        self.requests.iter().any(|r| r.is_same(wanted) && r.is_granted)
    }

    /// Gives the lock up, or stops waiting for it.
    pub fn withdraw(&mut self, request: &LockRequest) {
        self.requests.retain(|r| !r.is_same(request));
        self.grant();
    }

    /// Grants what nothing is in the way of.
    fn grant(&mut self) {
        for at in 0..self.requests.len() {
            if !self.requests[at].is_granted && self.in_the_way(at).next().is_none() {
                self.requests[at].is_granted = true;
            }
        }
        let granted: Vec<&LockRequest> = self.requests.iter().filter(|r| r.is_granted).collect();
        let is_sound = granted.iter().all(|a| granted.iter().all(|b| !a.conflicts_with(b)));
        assert!(is_sound, "an advisory lock is held twice: {granted:?}");
    }

    /// The requests that one waits for.
    fn in_the_way(&self, at: usize) -> impl Iterator<Item = &LockRequest> {
        let mine = self.requests[at];
        let has_lock = self.requests.iter().any(|r| r.owner == mine.owner && r.is_granted);
        let before = move |(i, r): &(usize, &LockRequest)| {
            mine.conflicts_with(r) && (r.is_granted || (*i < at && !has_lock))
        };
        self.requests.iter().enumerate().filter(before).map(|(_, r)| r)
    }
}

/// Whether an owner waits in a circle, and is the one that has to give up: the greatest of those in it. Everybody who looks
/// at the same locks comes to the same answer.
pub fn must_give_up<'a>(owner: LockOwner, locks: impl IntoIterator<Item = &'a AdvisoryLock>) -> bool {
    let mut waits: BTreeMap<LockOwner, BTreeSet<LockOwner>> = BTreeMap::new();
    for lock in locks {
        for (at, request) in lock.requests.iter().enumerate().filter(|(_, r)| !r.is_granted) {
            waits.entry(request.owner).or_default().extend(lock.in_the_way(at).map(|r| r.owner));
        }
    }
    // Through owners that are not greater, back to itself: then a circle exists of which it is the greatest.
    let mut seen = BTreeSet::new();
    let mut next = vec![owner];
    while let Some(one) = next.pop() {
        for other in waits.get(&one).into_iter().flatten().filter(|o| **o <= owner) {
            if *other == owner {
                return true;
            }
            if seen.insert(*other) {
                next.push(*other);
            }
        }
    }
    false
}

/// A holder's lease as a row.
pub fn encode_lease(end: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&end.as_nanos().to_be_bytes())
}

/// The end of a holder's lease. What can't be read is over.
pub fn decode_lease(row: &[u8]) -> Timestamp {
    row.try_into().map_or(Timestamp::ZERO, |bytes| Timestamp::from_nanos(u64::from_be_bytes(bytes)))
}
