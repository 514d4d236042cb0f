//! Cancel requests: who may cancel what.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};

use meridian_session::CancelHandle;
use parking_lot::Mutex;

/// The sessions of a node by the number and secret that their clients were given.
#[derive(Debug, Default)]
pub(crate) struct CancelRegistry {
    next_pid: AtomicI32,
    sessions: Mutex<HashMap<i32, (i32, CancelHandle)>>,
}

/// Removes a session from the registry when it ends.
pub(crate) struct Registered<'a> {
    registry: &'a CancelRegistry,
    pub(crate) pid: i32,
    pub(crate) secret: i32,
}

impl CancelRegistry {
    /// A number for a session that is about to open.
    pub(crate) fn next_pid(&self) -> i32 {
        // Wraps after two billion connections; 0 is what clients take for "none".
        self.next_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX
    }

    /// Makes `handle` reachable for a client that knows the secret.
    pub(crate) fn register(&self, pid: i32, handle: CancelHandle) -> Registered<'_> {
        let secret: i32 = rand::random();
        self.sessions.lock().insert(pid, (secret, handle));
        Registered { registry: self, pid, secret }
    }

    /// Cancels what the session runs, if the secret is right. A wrong one is ignored without an answer, as in
    /// PostgreSQL, so that secrets can't be probed.
    pub(crate) fn cancel(&self, pid: i32, secret: i32) {
        if let Some((expected, handle)) = self.sessions.lock().get(&pid)
            && *expected == secret
        {
            handle.cancel();
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.registry.sessions.lock().remove(&self.pid);
    }
}
