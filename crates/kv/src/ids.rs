//! Transaction ids.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_types::{NodeId, Timestamp, TxnId};

/// Bits of a sequence number that count; those above are the millisecond at which the gateway started. A restart of
/// the node therefore begins above every number used before, as long as it starts fewer than four million
/// transactions per millisecond.
const COUNTER_BITS: u32 = 22;

/// Gives out ids. Unique over restarts of the node (the clock never goes back by more than it takes to restart, and
/// `first_start` differs in any case).
#[derive(Debug)]
pub(crate) struct IdSource {
    node: NodeId,
    next: AtomicU64,
}

impl IdSource {
    pub(crate) fn new(node: NodeId) -> Self {
        IdSource { node, next: AtomicU64::new(0) }
    }

    /// The id of an attempt that begins at `now`; a retry passes the id of an earlier attempt and keeps its age.
    pub(crate) fn next(&self, now: Timestamp, retry_of: Option<TxnId>) -> TxnId {
        if self.next.load(Ordering::Relaxed) == 0 {
            let base = (now.as_nanos() / 1_000_000) << COUNTER_BITS;
            // Losing the race is fine: whoever won has set a base as good as ours.
            let _ = self.next.compare_exchange(0, base.max(1), Ordering::Relaxed, Ordering::Relaxed);
        }
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let first_start = retry_of.map_or(now, |earlier| earlier.first_start);
        TxnId { first_start, node: self.node, seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_a_restart_starts_above() {
        let (node, start) = (NodeId::new(2), Timestamp::from_nanos(1_700_000_000_000_000_000));
        let source = IdSource::new(node);
        let a = source.next(start, None);
        let b = source.next(start, None);
        assert!(a.seq < b.seq && a.is_older_than(&b));
        let retry = source.next(start.next(), Some(a));
        assert_eq!(retry.first_start, a.first_start);
        assert!(retry.seq > b.seq && retry.is_older_than(&source.next(start.next(), None)));
        let restarted = IdSource::new(node).next(Timestamp::from_nanos(start.as_nanos() + 1_000_000), None);
        assert!(restarted.seq > retry.seq);
    }
}
