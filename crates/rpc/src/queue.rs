//! The queue of messages to one peer: bounded, and drained in batches by one consumer.
//!
//! ```text
//!  disconnected --open()--> open --close()--> disconnected
//! ```
//! While disconnected nothing is taken: what would wait for a peer that is gone is stale when it comes back. Each opening
//! begins an *epoch*; a consumer of an earlier one, which may linger for a moment after its connection broke, finds the
//! queue closed and can neither take messages nor be woken in the place of its successor.
//!
//! Invariant: `bytes` is the sum of the weights of the queued messages.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::peer::{FRAME_BYTES, PeerMessage, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX, SendError};

/// Names the time between an opening of a queue and the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Epoch(u64);

#[derive(Debug, Default)]
struct State {
    open: bool,
    epoch: Epoch,
    waker: Option<Waker>,
    items: VecDeque<(Option<Instant>, PeerMessage)>,
    bytes: usize,
    delay: Duration,
}

/// What a look into the queue found.
#[derive(Debug)]
pub enum Taken {
    /// Messages, oldest first.
    Messages(Vec<PeerMessage>),
    /// Nothing is due before this moment.
    NotBefore(Instant),
    /// Nothing is queued.
    Empty,
    /// The queue is closed.
    Closed,
}

/// A bounded queue of messages to one peer, for threads and for tasks as consumers.
#[derive(Debug, Default)]
pub struct SendQueue {
    state: Mutex<State>,
    ready: Condvar,
}

impl SendQueue {
    /// A disconnected queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes messages from here on.
    pub fn open(&self) -> Epoch {
        let mut state = self.state.lock();
        state.open = true;
        state.epoch.0 += 1;
        state.waker = None;
        state.epoch
    }

    /// Drops what is queued, takes nothing more, and wakes the consumer.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.open = false;
        state.items.clear();
        state.bytes = 0;
        let waker = state.waker.take();
        drop(state);
        self.ready.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Every later message becomes due this long after it was queued.
    pub fn set_delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// Queues a message.
    pub fn push(&self, message: PeerMessage) -> Result<(), SendError> {
        let weight = message.weight();
        let mut state = self.state.lock();
        if !state.open {
            return Err(SendError::Disconnected);
        }
        let is_full = state.bytes + weight > QUEUE_BYTES_MAX || state.items.len() >= QUEUE_MESSAGES_MAX;
        if is_full && !message.is_answer() {
            return Err(SendError::Full);
        }
        let due = (!state.delay.is_zero()).then(|| Instant::now() + state.delay);
        let was_empty = state.items.is_empty();
        state.bytes += weight;
        state.items.push_back((due, message));
        let waker = state.waker.take();
        drop(state);
        if was_empty {
            self.ready.notify_one();
        }
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Takes what is due, up to one frame.
    pub fn take(&self, epoch: Epoch) -> Taken {
        Self::take_locked(&mut self.state.lock(), epoch)
    }

    fn take_locked(state: &mut State, epoch: Epoch) -> Taken {
        if !state.open || state.epoch != epoch {
            return Taken::Closed;
        }
        let mut taken = Vec::with_capacity(state.items.len().min(256));
        let mut bytes = 0;
        let mut now = None;
        while let Some((due, message)) = state.items.front() {
            if let Some(due) = *due
                && due > *now.get_or_insert_with(Instant::now)
            {
                if taken.is_empty() {
                    return Taken::NotBefore(due);
                }
                break;
            }
            let weight = message.weight();
            if bytes > 0 && bytes + weight > FRAME_BYTES {
                break;
            }
            bytes += weight;
            let (_, message) = state.items.pop_front().expect("the front was just seen");
            taken.push(message);
        }
        assert!(state.bytes >= bytes, "queue accounting broke: {} queued, {bytes} taken", state.bytes);
        state.bytes -= bytes;
        if taken.is_empty() { Taken::Empty } else { Taken::Messages(taken) }
    }

    /// As [`SendQueue::take`], registering the task to be woken when something comes. A delay is the caller's to wait
    /// for.
    pub fn poll_take(&self, epoch: Epoch, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut state = self.state.lock();
        match Self::take_locked(&mut state, epoch) {
            Taken::Empty => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            taken => Poll::Ready(taken),
        }
    }

    /// Takes what is due, blocking the thread until something is. `None` once closed.
    pub fn take_blocking(&self, epoch: Epoch) -> Option<Vec<PeerMessage>> {
        let mut state = self.state.lock();
        loop {
            match Self::take_locked(&mut state, epoch) {
                Taken::Messages(messages) => return Some(messages),
                Taken::NotBefore(due) => {
                    self.ready.wait_until(&mut state, due);
                }
                Taken::Empty => self.ready.wait(&mut state),
                Taken::Closed => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::GroupId;

    use super::*;

    fn message(n: u64) -> PeerMessage {
        PeerMessage::UnknownGroup { group: GroupId::new(n) }
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_forgets_what_it_held() {
        let queue = SendQueue::new();
        assert_eq!(queue.push(message(1)), Err(SendError::Disconnected));
        queue.open();
        assert_eq!(queue.push(message(1)), Ok(()));
        queue.close();
        assert_eq!(queue.push(message(2)), Err(SendError::Disconnected));
        let epoch = queue.open();
        assert!(matches!(queue.take(epoch), Taken::Empty));
    }

    #[test]
    fn a_full_queue_refuses_requests_but_takes_answers() {
        let queue = SendQueue::new();
        queue.open();
        for n in 0..QUEUE_MESSAGES_MAX as u64 {
            assert_eq!(queue.push(message(n)), Ok(()));
        }
        assert_eq!(queue.push(message(0)), Err(SendError::Full));
        let answer = PeerMessage::Answer { id: 7, result: Ok(meridian_shard::Response::Done) };
        assert_eq!(queue.push(answer), Ok(()));
    }

    #[test]
    fn order_is_kept_and_everything_queued_makes_one_frame() {
        let queue = SendQueue::new();
        let epoch = queue.open();
        for n in 0..5 {
            queue.push(message(n)).unwrap();
        }
        match queue.take(epoch) {
            Taken::Messages(messages) => assert_eq!(messages, (0..5).map(message).collect::<Vec<_>>()),
            other => panic!("expected messages, found {other:?}"),
        }
        assert!(matches!(queue.take(epoch), Taken::Empty));
    }

    #[test]
    fn a_consumer_of_an_earlier_epoch_takes_nothing_and_does_not_replace_its_successor() {
        let queue = SendQueue::new();
        let old = queue.open();
        queue.close();
        let new = queue.open();
        let (waker, wakes) = counting_waker();
        assert!(matches!(queue.poll_take(new, &mut Context::from_waker(&waker)), Poll::Pending));
        assert!(matches!(
            queue.poll_take(old, &mut Context::from_waker(Waker::noop())),
            Poll::Ready(Taken::Closed)
        ));
        queue.push(message(1)).unwrap();
        assert_eq!(wakes.0.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(matches!(queue.take(old), Taken::Closed));
        assert!(matches!(queue.take(new), Taken::Messages(_)));
    }

    #[derive(Default)]
    struct Wakes(std::sync::atomic::AtomicU64);

    impl std::task::Wake for Wakes {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn counting_waker() -> (Waker, std::sync::Arc<Wakes>) {
        let wakes = std::sync::Arc::new(Wakes::default());
        (Waker::from(wakes.clone()), wakes)
    }

    #[test]
    fn a_delayed_message_is_not_taken_early() {
        let queue = SendQueue::new();
        let epoch = queue.open();
        queue.set_delay(Duration::from_secs(3_600));
        queue.push(message(1)).unwrap();
        assert!(matches!(queue.take(epoch), Taken::NotBefore(_)));
    }
}
