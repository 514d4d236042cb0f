//! Virtual time: a queue of events in order of their time, ties in order of their scheduling.

use std::collections::BTreeMap;

use meridian_types::{Duration, Timestamp};

/// The queue. Invariant: time never goes back.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: Timestamp,
    sequence: u64,
    queue: BTreeMap<(Timestamp, u64), E>,
}

impl<E> Scheduler<E> {
    /// An empty queue whose clock stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Scheduler { now, sequence: 0, queue: BTreeMap::new() }
    }

    /// Absolute virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Has `event` happen at `time`, or at once if that has passed.
    pub fn at(&mut self, time: Timestamp, event: E) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    /// Has `event` happen after `delay`.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event up to `end`; time moves to it. `None` moves time to `end`.
    pub fn next_until(&mut self, end: Timestamp) -> Option<E> {
        match self.queue.first_entry() {
            Some(first) if first.key().0 <= end => {
                self.now = first.key().0;
                Some(first.remove())
            }
            Some(_) | None => {
                self.now = self.now.max(end);
                None
            }
        }
    }
}
