//! How fast schema changes go: they give way where the node is busy, and to an operator's throttle, which takes effect on
//! jobs that run already.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The least rest, which tells how busy the node is: a timer on an idle machine is late by less than [`LATE`].
const REST_MIN: Duration = Duration::from_millis(1);
/// Tokio's timers have a resolution of a millisecond; more is time that a statement would have waited for a thread, too.
const LATE: Duration = Duration::from_millis(3);
/// So much longer than it was late a job rests, so that it leaves most of a busy machine to others,
const REST_FACTOR: u32 = 4;
/// and no longer than this, so that it ends all the same.
const REST_MAX: Duration = Duration::from_millis(200);

/// The rest that jobs of this node take after each page of rows. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<AtomicU64>);

impl Pace {
    /// Sets the rest.
    pub fn set(&self, rest: meridian_types::Duration) {
        self.0.store(rest.as_nanos(), Ordering::Relaxed);
    }

    /// Rests, for longer where the node turns out to be busy.
    pub(super) async fn rest(&self) {
        let wanted = Duration::from_nanos(self.0.load(Ordering::Relaxed)).max(REST_MIN);
        let begun = Instant::now();
        tokio::time::sleep(wanted).await;
        let late = begun.elapsed().saturating_sub(wanted);
        if late > LATE {
            tokio::time::sleep((late * REST_FACTOR).min(REST_MAX)).await;
        }
    }
}
