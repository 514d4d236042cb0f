//! Artificial latency between regions, for demonstrations and tests on one machine.

use std::collections::BTreeMap;
use std::time::Duration;

/// One-way delays between pairs of regions, the same in both directions. Pairs that are not listed have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyTable {
    one_way: BTreeMap<(String, String), Duration>,
}

impl LatencyTable {
    /// No delay anywhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets the one-way delay between two regions, in both directions.
    pub fn set(&mut self, a: &str, b: &str, delay: Duration) {
        self.one_way.insert(Self::key(a, b), delay);
    }

    /// The one-way delay.
    pub fn get(&self, a: &str, b: &str) -> Duration {
        self.one_way.get(&Self::key(a, b)).copied().unwrap_or(Duration::ZERO)
    }

    fn key(a: &str, b: &str) -> (String, String) {
        if a <= b { (a.into(), b.into()) } else { (b.into(), a.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_symmetric_and_default_to_none() {
        let mut table = LatencyTable::none();
        table.set("us", "eu", Duration::from_millis(40));
        for (a, b, ms) in [("us", "eu", 40), ("eu", "us", 40), ("us", "us", 0), ("eu", "asia", 0)] {
            assert_eq!(table.get(a, b), Duration::from_millis(ms), "{a} to {b}");
        }
    }
}
