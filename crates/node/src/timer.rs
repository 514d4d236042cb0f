//! Wakes replicas at the moments that they ask for.
//!
//! One thread waits on a condition variable with an absolute deadline, which is exact to tens of microseconds; commit
//! wait is often shorter than the millisecond of an async runtime's timer wheel.
//!
//! Every replica has at most one entry that counts. To ask for an earlier moment adds an entry; to ask for a later one
//! changes nothing, and the tick that comes too early does no harm. So most steps touch nothing but one atomic.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use meridian_types::{GroupId, Timestamp};
use parking_lot::{Condvar, Mutex};

use crate::cell::Cell;

#[derive(Default)]
struct State {
    heap: BinaryHeap<Reverse<(u64, GroupId)>>,
    stopped: bool,
}

/// The moments asked for.
#[derive(Default)]
pub(crate) struct Timer {
    state: Mutex<State>,
    changed: Condvar,
}

impl Timer {
    /// Makes sure that `cell` is ticked at `at` or earlier.
    pub(crate) fn schedule(&self, cell: &Cell, at: Timestamp) {
        let at = at.as_nanos();
        if at >= cell.scheduled.load(Ordering::Relaxed) {
            return;
        }
        // Only the holder of the cell's lock schedules, so this is no race with another one; the timer's own reset is
        // followed by a tick, which schedules again.
        cell.scheduled.store(at, Ordering::Relaxed);
        let mut state = self.state.lock();
        let is_first = state.heap.peek().is_none_or(|Reverse((first, _))| at < *first);
        state.heap.push(Reverse((at, cell.group)));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Waits until something is due, and returns the groups; `None` once stopped.
    pub(crate) fn wait(
        &self,
        now: impl Fn() -> Timestamp,
        instant_of: impl Fn(Timestamp) -> Instant,
        due: &mut Vec<(u64, GroupId)>,
    ) -> bool {
        due.clear();
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return false;
            }
            let at = state.heap.peek().map(|Reverse((at, _))| *at);
            let Some(at) = at else {
                self.changed.wait(&mut state);
                continue;
            };
            let mono = now().as_nanos();
            if at > mono {
                self.changed.wait_until(&mut state, instant_of(Timestamp::from_nanos(at)));
                continue;
            }
            while let Some(Reverse((at, group))) = state.heap.peek().copied() {
                if at > mono {
                    break;
                }
                state.heap.pop();
                due.push((at, group));
            }
            return true;
        }
    }
}

/// Forgets the schedule of a cell whose entry at `at` has come; false when another entry counts.
pub(crate) fn take_schedule(cell: &Arc<Cell>, at: u64) -> bool {
    cell.scheduled.compare_exchange(at, u64::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
