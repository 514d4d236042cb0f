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
use std::time::{Duration, Instant};

use meridian_types::{GroupId, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant as RuntimeInstant;

use crate::bell::{Bell, Driving};
use crate::cell::Cell;

#[derive(Default)]
struct State {
    heap: BinaryHeap<Reverse<(u64, GroupId)>>,
    stopped: bool,
}

impl State {
    /// When the first is due, and the groups in `due` if that is now.
    fn take_due(&mut self, now: Timestamp, due: &mut Vec<(u64, GroupId)>) -> Option<Timestamp> {
        let mono = now.as_nanos();
        while let Some(Reverse((at, group))) = self.heap.peek().copied() {
            if at > mono {
                break;
            }
            self.heap.pop();
            due.push((at, group));
        }
        self.heap.peek().map(|Reverse((at, _))| Timestamp::from_nanos(*at))
    }
}

/// The moments asked for.
pub(crate) struct Timer {
    state: Mutex<State>,
    changed: Bell,
}

impl Timer {
    pub(crate) fn new(driving: Driving) -> Self {
        Timer { state: Mutex::default(), changed: Bell::new(driving) }
    }

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
            self.changed.ring();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.ring();
    }

    /// Waits until something is due, and says what; false once stopped.
    pub(crate) fn wait(
        &self,
        now: impl Fn() -> Timestamp,
        instant_of: impl Fn(Timestamp) -> Instant,
        due: &mut Vec<(u64, GroupId)>,
    ) -> bool {
        due.clear();
        let mut state = self.state.lock();
        while !state.stopped {
            let next = state.take_due(now(), due);
            if !due.is_empty() {
                return true;
            }
            match next {
                Some(at) => self.changed.wait_until(&mut state, instant_of(at)),
                None => self.changed.wait(&mut state),
            }
        }
        false
    }

    /// As [`Timer::wait`], for a task.
    pub(crate) async fn waited(
        &self,
        now: impl Fn() -> Timestamp,
        instant_of: impl Fn(Timestamp) -> Instant,
        due: &mut Vec<(u64, GroupId)>,
    ) -> bool {
        due.clear();
        loop {
            let next = {
                let mut state = self.state.lock();
                if state.stopped {
                    return false;
                }
                state.take_due(now(), due)
            };
            if !due.is_empty() {
                return true;
            }
            match next {
                Some(at) => {
                    // An oscillator that lags is not there yet when the runtime is, whose timers tell milliseconds apart.
                    let soonest = RuntimeInstant::now() + Duration::from_millis(1);
                    let at = RuntimeInstant::from_std(instant_of(at)).max(soonest);
                    tokio::time::timeout_at(at, self.changed.rung()).await.ok();
                }
                None => self.changed.rung().await,
            }
        }
    }
}

/// Forgets the schedule of a cell whose entry at `at` has come; false when another entry counts.
pub(crate) fn take_schedule(cell: &Arc<Cell>, at: u64) -> bool {
    cell.scheduled.compare_exchange(at, u64::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
