//! Group commit: one thread writes the log of all groups of a node.
//!
//! ```text
//!   steps --LogJob--> queue --everything that waits--> one batch, one fsync --> release messages --> Persisted
//! ```
//! A batch is whatever was queued while the last one was written: batches form under load, and nothing waits without
//! it. What follows a write (the `Persisted` steps) runs on this thread when nothing else waits, and else on a second
//! one, so that the disk is not idle meanwhile.
//!
//! **I-3**: `after` of a job is released only when the job's writes, and all before it, are durable. After an error
//! nothing is written or released any more.

use std::iter::Peekable;
use std::sync::Arc;

use meridian_paxos::{Envelope, Persist, PersistToken};
use meridian_storage::WriteBatch;
use parking_lot::Mutex;

use crate::bell::{Bell, Driving};
use crate::cell::Cell;
use crate::log_store;

/// Bytes of one batch, about; more waits for the next one.
const BATCH_BYTES: usize = 4 << 20;

/// The log writes of one step.
pub(crate) struct LogJob {
    pub(crate) cell: Arc<Cell>,
    pub(crate) token: PersistToken,
    pub(crate) persist: Vec<Persist>,
    pub(crate) after: Vec<Envelope>,
    /// What it counts in the backlog.
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct Queue<T> {
    items: Vec<T>,
    stopped: bool,
}

/// A queue that one thread or task drains.
pub(crate) struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    ready: Bell,
}

impl<T> Inbox<T> {
    pub(crate) fn new(driving: Driving) -> Self {
        let queue = Mutex::new(Queue { items: Vec::new(), stopped: false });
        Inbox { queue, ready: Bell::new(driving) }
    }

    pub(crate) fn push(&self, item: T) {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return;
        }
        queue.items.push(item);
        let was_empty = queue.items.len() == 1;
        drop(queue);
        if was_empty {
            self.ready.ring();
        }
    }

    /// Swaps everything queued into `items`, which is empty, waiting until there is something. False once stopped.
    pub(crate) fn take(&self, items: &mut Vec<T>) -> bool {
        assert!(items.is_empty(), "what was taken before is dealt with first");
        let mut queue = self.queue.lock();
        while queue.items.is_empty() && !queue.stopped {
            self.ready.wait(&mut queue);
        }
        std::mem::swap(&mut queue.items, items);
        !queue.stopped
    }

    /// As [`Inbox::take`], for a task.
    pub(crate) async fn taken(&self, items: &mut Vec<T>) -> bool {
        assert!(items.is_empty(), "what was taken before is dealt with first");
        loop {
            {
                let mut queue = self.queue.lock();
                if !queue.items.is_empty() || queue.stopped {
                    std::mem::swap(&mut queue.items, items);
                    return !queue.stopped;
                }
            }
            self.ready.rung().await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().items.is_empty()
    }

    /// Drops what is queued and takes nothing more.
    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stopped = true;
        queue.items.clear();
        drop(queue);
        self.ready.ring();
    }
}

/// What a written batch leads to: one token per group, the last one.
pub(crate) type Done = Vec<(Arc<Cell>, PersistToken)>;

/// What the writer tells the node.
pub(crate) trait LogObserver: Send + Sync {
    /// These messages may go.
    fn release(&self, envelopes: Vec<Envelope>);
    /// These writes are durable.
    fn persisted(&self, done: Done);
    /// A batch of this size, from so many jobs that counted as so much, was written.
    fn written(&self, bytes: usize, jobs: usize, waited: usize);
    /// Writes and syncs. False when the log is lost, which the observer has seen to.
    fn write(&self, batch: &WriteBatch) -> bool;
}

/// The queues of the two threads.
pub(crate) struct LogWriter {
    pub(crate) jobs: Inbox<LogJob>,
    done: Inbox<Done>,
}

impl LogWriter {
    pub(crate) fn new(driving: Driving) -> Self {
        LogWriter { jobs: Inbox::new(driving), done: Inbox::new(driving) }
    }

    pub(crate) fn stop(&self) {
        self.jobs.stop();
        self.done.stop();
    }

    /// The writing thread.
    pub(crate) fn run_writer(&self, observer: &dyn LogObserver) {
        let mut jobs = Vec::new();
        while self.jobs.take(&mut jobs) {
            let mut rest = std::mem::take(&mut jobs).into_iter().peekable();
            while rest.peek().is_some() {
                let Some(done) = self.write_batch(&mut rest, observer) else { return };
                if done.is_empty() {
                    continue;
                }
                if rest.peek().is_none() && self.jobs.is_empty() && self.done.is_empty() {
                    observer.persisted(done);
                } else {
                    self.done.push(done);
                }
            }
        }
    }

    /// Both threads' work, by a task. `disk` is awaited before each batch: how long the disk takes. A node that stops
    /// meanwhile has written nothing of the batch.
    pub(crate) async fn run_task<F: Future<Output = ()>>(
        &self,
        observer: &dyn LogObserver,
        disk: impl Fn() -> F,
    ) {
        let mut jobs = Vec::new();
        while self.jobs.taken(&mut jobs).await {
            let mut rest = std::mem::take(&mut jobs).into_iter().peekable();
            while rest.peek().is_some() {
                disk().await;
                let Some(done) = self.write_batch(&mut rest, observer) else { return };
                if !done.is_empty() {
                    observer.persisted(done);
                }
            }
        }
    }

    /// Writes as many jobs as fit into a batch, and releases what waited for them. `None` when the log is lost.
    fn write_batch(
        &self,
        rest: &mut Peekable<std::vec::IntoIter<LogJob>>,
        observer: &dyn LogObserver,
    ) -> Option<Done> {
        let mut batch = WriteBatch::new();
        let mut released = Vec::new();
        let mut done: Done = Vec::new();
        let (mut count, mut waited) = (0, 0);
        while batch.bytes() < BATCH_BYTES
            && let Some(job) = rest.next()
        {
            count += 1;
            waited += job.bytes;
            if !job.persist.is_empty() {
                log_store::push(&mut batch, job.cell.group, job.persist);
                match done.iter_mut().find(|(cell, _)| Arc::ptr_eq(cell, &job.cell)) {
                    Some((_, token)) => *token = job.token,
                    None => done.push((job.cell, job.token)),
                }
            }
            released.extend(job.after);
        }
        if !batch.is_empty() {
            let bytes = batch.bytes();
            if !observer.write(&batch) {
                self.jobs.stop();
                return None;
            }
            observer.written(bytes, count, waited);
        }
        observer.release(released);
        Some(done)
    }

    /// The thread for what follows a write while another one is under way.
    pub(crate) fn run_follow_up(&self, observer: &dyn LogObserver) {
        let mut batches = Vec::new();
        while self.done.take(&mut batches) {
            for done in batches.drain(..) {
                observer.persisted(done);
            }
        }
    }
}
