//! Keeps a reserve of free space on the device.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use meridian_storage::{Mutation, StorageError, WriteBatch};

/// Free space is looked up once per this many bytes written; other programs seldom fill a reserve in that time.
const CHECK_EVERY_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy)]
pub(crate) struct Space {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

type Probe = Box<dyn Fn() -> Option<Space> + Send + Sync>;

/// Refuses puts while the device's free space is below the reserve. While it is, every put looks again, so that writes
/// go on as soon as space is freed.
pub(crate) struct SpaceGuard {
    reserve: u64,
    /// On a small device the reserve is at most one part of so many.
    part: u64,
    probe: Probe,
    unchecked: AtomicU64,
    low: AtomicBool,
}

impl SpaceGuard {
    pub(crate) fn of_folder(folder: PathBuf, reserve: u64, part: u64) -> Self {
        let probe = move || {
            let found = rustix::fs::statvfs(&folder).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            Some(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
        };
        Self::new(Box::new(probe), reserve, part)
    }

    pub(crate) fn new(probe: Probe, reserve: u64, part: u64) -> Self {
        let guard =
            SpaceGuard { reserve, part, probe, unchecked: AtomicU64::new(0), low: AtomicBool::new(false) };
        guard.look();
        guard
    }

    /// Fails where the batch puts something and the device is low on space. Deletions pass: they make room.
    pub(crate) fn admit(&self, batch: &WriteBatch) -> Result<(), StorageError> {
        let bytes = batch.bytes() as u64;
        let unchecked = self.unchecked.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unchecked >= CHECK_EVERY_BYTES || self.low.load(Ordering::Relaxed) {
            self.look();
        }
        let puts = || batch.mutations().iter().any(|m| matches!(m, Mutation::Put { .. }));
        if self.low.load(Ordering::Relaxed) && puts() {
            return Err(StorageError::NoSpace { detail: "free space is below the reserve".to_owned() });
        }
        Ok(())
    }

    /// True while the reserve is touched.
    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    fn look(&self) {
        self.unchecked.store(0, Ordering::Relaxed);
        // Where the device can't be asked, the write itself will tell.
        let low = (self.probe)().is_some_and(|s| s.free < self.reserve.min(s.total / self.part));
        if self.low.swap(low, Ordering::Relaxed) != low {
            tracing::warn!(low, "free space of the data folder crossed the reserve");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meridian_storage::Family;

    use super::*;

    #[test]
    fn puts_are_refused_below_the_reserve_and_go_on_above_it() {
        let free = Arc::new(AtomicU64::new(1_000));
        let probed = free.clone();
        let probe = move || Some(Space { free: probed.load(Ordering::Relaxed), total: 1 << 40 });
        let guard = SpaceGuard::new(Box::new(probe), 500, 16);
        let put = |bytes: usize| {
            let mut batch = WriteBatch::new();
            batch.put(Family::Data, &b"k"[..], vec![0; bytes]);
            batch
        };
        let mut deletion = WriteBatch::new();
        deletion.delete(Family::Data, &b"k"[..]);
        assert_eq!(guard.admit(&put(1)), Ok(()));
        free.store(499, Ordering::Relaxed);
        assert_eq!(guard.admit(&put(1)), Ok(()), "not looked up with every put");
        assert!(matches!(guard.admit(&put(1 << 20)), Err(StorageError::NoSpace { .. })));
        assert!(matches!(guard.admit(&put(1)), Err(StorageError::NoSpace { .. })));
        assert_eq!(guard.admit(&deletion), Ok(()));
        free.store(500, Ordering::Relaxed);
        assert_eq!(guard.admit(&put(1)), Ok(()));
    }

    #[test]
    fn small_devices_have_a_smaller_reserve() {
        let guard = |free| SpaceGuard::new(Box::new(move || Some(Space { free, total: 1_600 })), 500, 16);
        let mut batch = WriteBatch::new();
        batch.put(Family::Data, &b"k"[..], &b""[..]);
        assert!(guard(99).admit(&batch).is_err());
        assert!(guard(100).admit(&batch).is_ok());
        let unknown = SpaceGuard::new(Box::new(|| None), 500, 16);
        assert!(unknown.admit(&batch).is_ok());
    }
}
