//! Data of COPY FROM STDIN, kept so that the copy can be made again.
//!
//! A transaction keeps `copy_retry_limit` bytes at most (64 MB unless set otherwise), and the transactions of a node
//! [`NODE_BYTES_MAX`] together; one that would keep more goes on, but is not run again.
//!
//! Invariant: the budget's count is the sum of what all [`Copied`] hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all transactions of a node keep together.
pub(crate) const NODE_BYTES_MAX: usize = 256 << 20;

/// The data is held in blocks of this many bytes, so that it is not moved as it grows, and messages of a row each cost no
/// allocation each.
const BLOCK_BYTES: usize = 64 << 10;

/// What the sessions of a node keep together.
#[derive(Clone, Debug, Default)]
pub(crate) struct CopyBudget(Arc<AtomicUsize>);

impl CopyBudget {
    fn take(&self, bytes: usize) -> bool {
        let within = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= NODE_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }
}

/// Data in the order in which it came.
#[derive(Debug)]
pub(crate) struct Copied {
    budget: CopyBudget,
    blocks: Vec<Vec<u8>>,
    /// Capacity of the blocks, which is what memory they take.
    bytes: usize,
}

impl Copied {
    pub(crate) fn new(budget: CopyBudget) -> Self {
        Copied { budget, blocks: Vec::new(), bytes: 0 }
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a piece; false when that would be more than `limit` bytes, or than the node has left.
    #[must_use]
    pub(crate) fn push(&mut self, data: &[u8], limit: usize) -> bool {
        if let Some(last) = self.blocks.last_mut()
            && last.capacity() - last.len() >= data.len()
        {
            last.extend_from_slice(data);
            return true;
        }
        let block = data.len().max(BLOCK_BYTES);
        if self.bytes + block > limit || !self.budget.take(block) {
            return false;
        }
        let mut fresh = Vec::with_capacity(block);
        fresh.extend_from_slice(data);
        self.blocks.push(fresh);
        self.bytes += block;
        true
    }

    /// The data, cut somewhere.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().map(Vec::as_slice)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let before = self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
        assert!(before >= self.bytes, "what is given back was taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_kept_in_order_within_the_limit_and_the_nodes_budget() {
        let budget = CopyBudget::default();
        let mut copied = Copied::new(budget.clone());
        let mut sent = Vec::new();
        for n in 0..10_000 {
            let line = format!("{n}\tx\n");
            assert!(copied.push(line.as_bytes(), 4 * BLOCK_BYTES));
            sent.extend_from_slice(line.as_bytes());
        }
        assert_eq!(copied.pieces().collect::<Vec<_>>().concat(), sent);
        assert!(copied.push(&vec![b'x'; 2 * BLOCK_BYTES], 4 * BLOCK_BYTES));
        assert!(!copied.push(&vec![b'x'; 2 * BLOCK_BYTES], 4 * BLOCK_BYTES), "beyond its own limit");
        assert_eq!((copied.bytes(), budget.0.load(Ordering::Relaxed)), (4 * BLOCK_BYTES, 4 * BLOCK_BYTES));
        let mut other = Copied::new(budget.clone());
        assert!(!other.push(&vec![0; NODE_BYTES_MAX], usize::MAX), "beyond what the node has left");
        drop(copied);
        assert_eq!((other.bytes(), budget.0.load(Ordering::Relaxed)), (0, 0));
    }
}
