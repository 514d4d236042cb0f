//! Work beside the node's loops: snapshots, erasures.
//!
//! It is written as futures. In a node that threads drive each has a thread of its own, which waits where the future
//! does; in one that tasks drive it is a task. Each ends by itself once the node has stopped.

use std::time::Duration;

use crate::bell::Driving;
use crate::inner::Inner;

impl Inner {
    /// Starts `work`.
    ///
    /// # Panics
    /// When the operating system has no thread for it.
    pub(crate) fn in_background(&self, name: String, work: impl Future<Output = ()> + Send + 'static) {
        match self.driving {
            Driving::Tasks => drop(tokio::spawn(work)),
            Driving::Threads => {
                let run = move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                    runtime.expect("a runtime without I/O needs nothing of the system").block_on(work);
                };
                let thread = std::thread::Builder::new().name(name).spawn(run);
                thread.expect("the operating system has a thread for it");
            }
        }
    }

    /// Lets others run until `is_over`, or the node has stopped; false in that case.
    pub(crate) async fn until(&self, is_over: impl Fn() -> bool) -> bool {
        const PAUSE: Duration = Duration::from_micros(100);
        while !is_over() {
            if self.is_stopped() {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}
