//! Counting.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many transactions ended how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Committed.
    pub ok: u64,
    /// Certain failures.
    pub failed: u64,
    /// Unknown outcomes.
    pub unknown: u64,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.ok + self.failed + self.unknown
    }

    /// The percentage that committed; 100 of nothing.
    pub fn share(&self) -> f64 {
        match self.total() {
            0 => 100.0,
            total => 100.0 * self.ok as f64 / total as f64,
        }
    }

    /// What came on top of `before`.
    pub fn since(&self, before: &Counts) -> Counts {
        Counts {
            ok: self.ok - before.ok,
            failed: self.failed - before.failed,
            unknown: self.unknown - before.unknown,
        }
    }
}

/// Latencies of committed transactions.
#[derive(Clone, Default, Debug)]
pub struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// The latency that `share` (0 to 1) of them do not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
        Duration::from_micros(sorted.get(at).copied().unwrap_or(0).into())
    }

    /// The mean.
    pub fn mean(&self) -> Duration {
        let sum: u64 = self.micros.iter().map(|m| u64::from(*m)).sum();
        Duration::from_micros(sum.checked_div(self.micros.len() as u64).unwrap_or(0))
    }
}

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) counts: Counts,
    pub(crate) all: Latencies,
    /// Since the last progress line.
    pub(crate) window: Latencies,
    /// Failures by their code.
    pub(crate) codes: BTreeMap<String, u64>,
    /// What was seen and must not be.
    pub(crate) violations: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_values() {
        let mut latencies = Latencies::default();
        (1..=100).rev().for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert_eq!(latencies.quantile(0.5), Duration::from_millis(50));
        assert_eq!(latencies.quantile(0.99), Duration::from_millis(99));
        assert_eq!(latencies.quantile(1.0), Duration::from_millis(100));
        assert_eq!(Latencies::default().quantile(0.5), Duration::ZERO);
    }
}
