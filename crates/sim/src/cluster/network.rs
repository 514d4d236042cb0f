//! The network: loss, duplication, delay, reordering; partitions full, in one direction and bridged; resets.

use std::collections::BTreeSet;

use meridian_types::{Duration, NodeId, SeededRng};

use super::delivery::Address;
use super::options::Weather;

#[derive(Debug, Default)]
pub(super) struct Network {
    /// Directed links that are cut.
    cut: BTreeSet<(Address, Address)>,
    pub(super) is_reliable: bool,
}

/// When a message arrives: never, once or twice.
pub(super) struct Arrivals {
    pub(super) first: Option<Duration>,
    pub(super) again: Option<Duration>,
}

impl Network {
    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    fn cut_one(&mut self, from: u32, to: u32) {
        self.cut.insert((Address::Node(NodeId::new(from)), Address::Node(NodeId::new(to))));
    }

    /// Two random sides, or one node alone.
    pub(super) fn partition(&mut self, nodes: u32, rng: &mut SeededRng) {
        let alone = rng.chance(1, 2).then(|| 1 + rng.below(u64::from(nodes)) as u32);
        let sides: Vec<bool> =
            (1..=nodes).map(|n| alone.map_or_else(|| rng.chance(1, 2), |alone| n == alone)).collect();
        for a in 1..=nodes {
            for b in 1..=nodes {
                if sides[a as usize - 1] != sides[b as usize - 1] {
                    self.cut_one(a, b);
                }
            }
        }
    }

    /// One node is not heard, or hears nothing.
    pub(super) fn one_way(&mut self, nodes: u32, victim: NodeId, rng: &mut SeededRng) {
        let is_mute = rng.chance(1, 2);
        for other in (1..=nodes).filter(|n| *n != victim.get()) {
            if is_mute {
                self.cut_one(victim.get(), other);
            } else {
                self.cut_one(other, victim.get());
            }
        }
    }

    /// One node is not heard.
    pub(super) fn mute(&mut self, nodes: u32, victim: NodeId) {
        (1..=nodes).filter(|n| *n != victim.get()).for_each(|other| self.cut_one(victim.get(), other));
    }

    /// Two sides that only `bridge` talks to.
    pub(super) fn bridge(&mut self, nodes: u32, bridge: NodeId, rng: &mut SeededRng) {
        let sides: Vec<bool> = (0..nodes).map(|_| rng.chance(1, 2)).collect();
        let is_end = |n: u32| n != bridge.get();
        for a in (1..=nodes).filter(|n| is_end(*n)) {
            for b in (1..=nodes).filter(|n| is_end(*n)) {
                if sides[a as usize - 1] != sides[b as usize - 1] {
                    self.cut_one(a, b);
                }
            }
        }
    }

    pub(super) fn arrivals(
        &self,
        from: Address,
        to: Address,
        may_duplicate: bool,
        weather: &Weather,
        rng: &mut SeededRng,
    ) -> Arrivals {
        if from == to {
            return Arrivals { first: Some(Duration::from_micros(10)), again: None };
        }
        if self.is_reliable {
            return Arrivals { first: Some(Duration::from_micros(100 + rng.below(1_000))), again: None };
        }
        if self.cut.contains(&(from, to)) || rng.chance(weather.loss, 1_000) {
            return Arrivals { first: None, again: None };
        }
        let delay = |rng: &mut SeededRng| {
            if rng.chance(weather.straggling, 1_000) {
                Duration::from_micros(rng.below(1_500_000))
            } else {
                Duration::from_micros(100 + rng.below(weather.delay_us))
            }
        };
        let again = (may_duplicate && rng.chance(weather.duplication, 1_000)).then(|| delay(rng));
        Arrivals { first: Some(delay(rng)), again }
    }
}
