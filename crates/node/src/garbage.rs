//! Which versions the data engine need not keep: horizons from the replicas to the engine's compactions.
//!
//! ```text
//!   housekeeping, on leaders:  Collect(now - retention) -> replicated horizon (meridian_shard's `garbage.rs`)
//!   housekeeping, on all:      replicas' horizons -> Horizons::publish
//!   compaction threads:        Horizons::sweep -> drop what is shadowed below the horizon of its shard
//! ```
//! Invariant: a compaction uses no horizon before the replica whose horizon it is refuses reads below it. A read that was
//! let in earlier looks at its replica's horizon again when it has been done (`driver.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_keys::version;
use meridian_mvcc::Garbage;
use meridian_types::{Duration, Span, Timestamp};
use parking_lot::RwLock;

/// For how long old versions are kept where nobody says otherwise: a day, and an hour for whoever comes late.
pub const RETENTION: Duration = Duration::from_secs(25 * 3_600);

/// The horizons of a node's replicas, shared with the compactions of its data engine.
#[derive(Debug)]
pub struct Horizons {
    retention_ns: AtomicU64,
    /// In order of their starts. Replicas of a node overlap for a moment only, while one takes another's place.
    spans: RwLock<Arc<[(Span, Timestamp)]>>,
}

impl Default for Horizons {
    fn default() -> Self {
        Horizons { retention_ns: AtomicU64::new(RETENTION.as_nanos()), spans: RwLock::new(Arc::from([])) }
    }
}

impl Horizons {
    /// For how long versions are kept after they were overwritten or deleted.
    pub fn retention(&self) -> Duration {
        Duration::from_nanos(self.retention_ns.load(Ordering::Relaxed))
    }

    /// Changes that. What a shorter time let go does not come back with a longer one.
    pub fn set_retention(&self, retention: Duration) {
        self.retention_ns.store(retention.as_nanos(), Ordering::Relaxed);
    }

    /// Makes horizons that the replicas heed known to compactions that begin from here on.
    pub(crate) fn publish(&self, mut spans: Vec<(Span, Timestamp)>) {
        spans.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start));
        *self.spans.write() = spans.into();
    }

    /// For one compaction.
    pub fn sweep(&self) -> Sweep {
        Sweep { spans: self.spans.read().clone(), within: None }
    }
}

/// Decides about the versions that one compaction meets, in ascending order of key.
#[derive(Debug)]
pub struct Sweep {
    spans: Arc<[(Span, Timestamp)]>,
    within: Option<(Span, Garbage)>,
}

impl Sweep {
    /// True when the version may go. Rows of no replica here are kept: they may be on their way.
    pub fn is_garbage(&mut self, version_key: &[u8]) -> bool {
        let Ok((row, _)) = version::split(version_key) else { return false };
        if !self.within.as_ref().is_some_and(|(span, _)| span.contains(row)) {
            let at = self.spans.partition_point(|(span, _)| span.start.as_bytes() <= row);
            let found = at.checked_sub(1).map(|i| &self.spans[i]).filter(|(span, _)| span.contains(row));
            self.within = found.map(|(span, horizon)| (span.clone(), Garbage::new(*horizon)));
        }
        self.within.as_mut().is_some_and(|(_, garbage)| garbage.is_garbage(version_key))
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::Key;

    use super::*;

    #[test]
    fn each_shard_has_its_own_horizon_and_foreign_rows_stay() {
        let key = |s: &str| Key::copy_from(s.as_bytes());
        let ts = Timestamp::from_nanos;
        let horizons = Horizons::default();
        let at = |horizons: &Horizons, rows: &[(&str, u64)]| {
            let mut sweep = horizons.sweep();
            let version = |(row, t): &(&str, u64)| version::encode(row.as_bytes(), ts(*t));
            rows.iter().map(|row| sweep.is_garbage(&version(row))).collect::<Vec<_>>()
        };
        let rows = [("a", 60), ("a", 40), ("a", 30), ("g", 40), ("g", 30), ("m", 40), ("m", 30), ("x", 1)];
        assert_eq!(at(&horizons, &rows), [false; 8], "nothing is known yet");
        horizons.publish(vec![
            (Span::new(key("m"), Some(key("n"))), ts(20)),
            (Span::new(key("a"), Some(key("c"))), ts(50)),
        ]);
        assert_eq!(at(&horizons, &rows), [false, false, true, false, false, false, false, false]);
        horizons.publish(vec![(Span::ALL, ts(35))]);
        assert_eq!(at(&horizons, &rows), [false, false, false, false, false, false, false, false]);
        horizons.publish(vec![(Span::ALL, ts(40))]);
        assert_eq!(at(&horizons, &rows), [false, false, true, false, true, false, true, false]);
    }
}
