//! Virtual time: a queue of events in order of their time, ties in order of their scheduling.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use meridian_types::{Duration, Timestamp};

/// The queue. The heap holds small keys; the events, which are large, stay where they are.
///
/// Invariants: time never goes back; every key in the heap names a slot that holds an event.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: Timestamp,
    sequence: u64,
    queue: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
}

impl<E> Scheduler<E> {
    /// An empty queue whose clock stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Scheduler { now, sequence: 0, queue: BinaryHeap::new(), slots: Vec::new(), free: Vec::new() }
    }

    /// Absolute virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Has `event` happen at `time`, or at once if that has passed.
    pub fn at(&mut self, time: Timestamp, event: E) {
        self.sequence += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(Some(event));
        } else {
            assert!(self.slots[slot].is_none(), "a free slot holds an event");
            self.slots[slot] = Some(event);
        }
        self.queue.push(Reverse((time.max(self.now), self.sequence, slot)));
    }

    /// Has `event` happen after `delay`.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event up to `end`; time moves to it. `None` moves time to `end`.
    pub fn next_until(&mut self, end: Timestamp) -> Option<E> {
        match self.queue.peek() {
            Some(Reverse((time, _, slot))) if *time <= end => {
                assert!(*time >= self.now, "time went back");
                let slot = *slot;
                self.now = *time;
                self.queue.pop();
                self.free.push(slot);
                Some(self.slots[slot].take().expect("a key in the heap names an event"))
            }
            Some(_) | None => {
                self.now = self.now.max(end);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let at = Timestamp::from_nanos;
        let mut queue = Scheduler::new(at(10));
        for (time, event) in [(30, 'd'), (20, 'b'), (20, 'c'), (5, 'a'), (90, 'z')] {
            queue.at(at(time), event);
        }
        let mut seen = Vec::new();
        while let Some(event) = queue.next_until(at(50)) {
            seen.push((queue.now().as_nanos(), event));
        }
        assert_eq!(seen, [(10, 'a'), (20, 'b'), (20, 'c'), (30, 'd')]);
        assert_eq!(queue.now(), at(50), "time moves on to the end");
        queue.after(Duration::from_nanos(1), 'e');
        assert_eq!(queue.next_until(at(60)), Some('e'), "slots are used again");
        assert_eq!(queue.next_until(at(100)), Some('z'));
        assert_eq!(queue.next_until(at(100)), None);
    }
}
