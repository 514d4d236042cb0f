//! Transaction ids.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_types::{NodeId, Timestamp, TxnId};

/// Bits of a sequence number that count; those above are the millisecond at which the gateway started. A restart of
/// the node therefore begins above every number used before, as long as it starts fewer than four million
/// transactions per millisecond.
const COUNTER_BITS: u32 = 22;

/// Gives out ids. Unique over restarts of the node (the clock never goes back by more than it takes to restart, and
/// `first_start` differs in any case). Of two transactions of a node, the one that began first is the older one.
#[derive(Debug)]
pub(crate) struct IdSource {
    node: NodeId,
    next: AtomicU64,
    /// The greatest start that was given out, in nanoseconds.
    last: AtomicU64,
}

impl IdSource {
    pub(crate) fn new(node: NodeId) -> Self {
        IdSource { node, next: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    /// The id of an attempt that begins at `now`; a retry passes the id of an earlier attempt and keeps its age. While the
    /// time is not known the last one that was counts: an age too great is harmless, and the shards assign no timestamps
    /// meanwhile. `None` where it never was.
    pub(crate) fn next(&self, now: Option<Timestamp>, retry_of: Option<TxnId>) -> Option<TxnId> {
        // A clock that is corrected steps back; ages do not.
        let now = now.map_or(0, Timestamp::as_nanos);
        let now = now.max(self.last.fetch_max(now, Ordering::Relaxed));
        if now == 0 {
            return None;
        }
        if self.next.load(Ordering::Relaxed) == 0 {
            let base = (now / 1_000_000) << COUNTER_BITS;
            // Losing the race is fine: whoever won has set a base as good as ours.
            let _ = self.next.compare_exchange(0, base.max(1), Ordering::Relaxed, Ordering::Relaxed);
        }
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let first_start = retry_of.map_or(Timestamp::from_nanos(now), |earlier| earlier.first_start);
        Some(TxnId { first_start, node: self.node, seq })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_a_restart_starts_above() {
        let (node, start) = (NodeId::new(2), Timestamp::from_nanos(1_700_000_000_000_000_000));
        let source = IdSource::new(node);
        assert_eq!(source.next(None, None), None, "the time was never known");
        let next = |now, retry_of| source.next(now, retry_of).expect("the time was known");
        let (a, b) = (next(Some(start), None), next(Some(start), None));
        assert!(a.seq < b.seq && a.is_older_than(&b));
        let retry = next(Some(start.next()), Some(a));
        assert_eq!(retry.first_start, a.first_start);
        assert!(retry.seq > b.seq && retry.is_older_than(&next(Some(start.next()), None)));
        let restarted = IdSource::new(node);
        let restarted = restarted.next(Some(Timestamp::from_nanos(start.as_nanos() + 1_000_000)), None);
        assert!(restarted.expect("the time is known").seq > retry.seq);
    }

    /// Whoever begins first is older, whatever the clock does in between.
    #[test]
    fn ages_of_a_node_never_step_back() {
        let source = IdSource::new(NodeId::new(2));
        let at = |ms: u64| Some(Timestamp::from_nanos(ms * 1_000_000));
        let ids = [at(70), at(68), None, at(69), at(71)]
            .map(|now| source.next(now, None).expect("a time is known"));
        assert!(ids.windows(2).all(|w| w[0].is_older_than(&w[1])), "{ids:?}");
        assert_eq!(ids.map(|id| id.first_start.as_nanos() / 1_000_000), [70, 70, 70, 70, 71]);
    }
}
