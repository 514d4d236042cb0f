//! Who drives a node, and how those that wait are woken.

use std::time::Instant;

use parking_lot::{Condvar, MutexGuard};
use tokio::sync::Notify;

/// Who drives a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Driving {
    /// Threads of its own.
    Threads,
    /// Tasks of the runtime that it was opened in, which has one thread and perhaps no real time.
    Tasks,
}

/// Wakes the one that waits at a queue or for a moment: a thread on a condition variable, or a task.
pub(crate) struct Bell {
    thread: Condvar,
    task: Option<Notify>,
}

impl Bell {
    pub(crate) fn new(driving: Driving) -> Self {
        Bell { thread: Condvar::new(), task: (driving == Driving::Tasks).then(Notify::new) }
    }

    /// Wakes it, or the next one that comes to wait as a task.
    pub(crate) fn ring(&self) {
        match &self.task {
            None => drop(self.thread.notify_one()),
            Some(task) => task.notify_one(),
        }
    }

    /// The thread's wait.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.thread.wait(guard);
    }

    /// The thread's wait, to `until` at the longest.
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) {
        self.thread.wait_until(guard, until);
    }

    /// The task's wait. It may end for nothing.
    ///
    /// # Panics
    /// In a node that threads drive.
    pub(crate) async fn rung(&self) {
        self.task.as_ref().expect("a node that tasks drive").notified().await;
    }
}
