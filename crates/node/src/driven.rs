//! A node without threads: the loops of [`crate::node`] as tasks of one runtime.
//!
//! ```text
//!   log writer  -- disk() --> one batch --> release, Persisted      (the two threads of a log writer)
//!   applier     -- big batches
//!   timer       -- ticks
//!   housekeeping
//! ```
//! For simulations of whole nodes. Everything else of a node is the same code. The runtime has one thread, and its time may
//! be virtual. Between two awaits nothing else happens, so a node can be stopped ([`crate::Node::stop`]) at any of them, as
//! by a crash; what the log writer has not written then is lost, since `disk` comes before the write.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::housekeeping::{CLOSE_INTERVAL, Rounds};
use crate::inner::{Inner, Observer};

/// How long a write to the log takes: awaited before each.
pub type DiskModel = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Starts the tasks. They end when the node stops, or when they are aborted.
pub(crate) fn start(inner: &Arc<Inner>, disk: DiskModel) -> Vec<AbortHandle> {
    let writer = {
        let inner = inner.clone();
        async move { inner.log_writer.run_task(&Observer(inner.clone()), || disk()).await }
    };
    let applier = {
        let inner = inner.clone();
        async move {
            let mut jobs = Vec::new();
            while inner.applier.taken(&mut jobs).await {
                jobs.drain(..).for_each(|job| inner.apply_big(job));
            }
        }
    };
    let timer = {
        let inner = inner.clone();
        async move {
            let mut due = Vec::new();
            let clock = inner.clock.clone();
            while inner.timer.waited(|| clock.mono(), |at| clock.instant_of(at), &mut due).await {
                inner.tick(&mut due);
            }
        }
    };
    let housekeeping = {
        let inner = inner.clone();
        async move {
            let mut rounds = Rounds::default();
            let mut ticks = tokio::time::interval(CLOSE_INTERVAL.into());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !inner.is_stopped() {
                ticks.tick().await;
                inner.keep_house(&mut rounds);
            }
        }
    };
    vec![
        tokio::spawn(writer).abort_handle(),
        tokio::spawn(applier).abort_handle(),
        tokio::spawn(timer).abort_handle(),
        tokio::spawn(housekeeping).abort_handle(),
    ]
}
