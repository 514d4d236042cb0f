//! The network: loss, duplication, delay, reordering, partitions in one or both directions.

use std::collections::BTreeSet;

use meridian_types::{Duration, NodeId, SeededRng};

use super::SimConfig;
use super::config::Weather;

#[derive(Debug, Default)]
pub(super) struct Network {
    /// Directed links that are cut.
    cut: BTreeSet<(NodeId, NodeId)>,
    pub(super) is_reliable: bool,
}

impl Network {
    /// Splits the nodes into two random sides; now and then only one direction is cut.
    pub(super) fn split(&mut self, nodes: u32, rng: &mut SeededRng) {
        self.cut.clear();
        let sides: Vec<bool> = (0..nodes).map(|_| rng.chance(1, 2)).collect();
        let is_one_way = rng.chance(1, 4);
        let isolated = rng.below(u64::from(nodes));
        let is_isolation = rng.chance(1, 2);
        for a in 0..nodes {
            for b in 0..nodes {
                let apart = if is_isolation {
                    u64::from(a) == isolated || u64::from(b) == isolated
                } else {
                    sides[a as usize] != sides[b as usize]
                };
                if a != b && apart && !(is_one_way && a < b) {
                    self.cut.insert((NodeId::new(a + 1), NodeId::new(b + 1)));
                }
            }
        }
    }

    /// Cuts one node off from all others.
    pub(super) fn isolate(&mut self, node: NodeId, nodes: u32) {
        for other in (1..=nodes).map(NodeId::new).filter(|n| *n != node) {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    /// Cuts a few random links, so that who hears whom is not transitive.
    pub(super) fn fray(&mut self, nodes: u32, rng: &mut SeededRng) {
        for _ in 0..2 {
            let a = NodeId::new(rng.below(u64::from(nodes)) as u32 + 1);
            let b = NodeId::new(rng.below(u64::from(nodes)) as u32 + 1);
            self.cut.insert((a, b));
            self.cut.insert((b, a));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// After which times a message arrives: none when it is lost, two when it is duplicated.
    pub(super) fn deliveries(
        &self,
        config: &SimConfig,
        weather: &Weather,
        rng: &mut SeededRng,
    ) -> [Option<Duration>; 2] {
        if self.is_reliable {
            return [Some(Duration::from_micros(200 + rng.below(300))), None];
        }
        if rng.chance(weather.loss, 1_000) {
            return [None, None];
        }
        let delay = |rng: &mut SeededRng| {
            if rng.chance(weather.straggling, 1_000) {
                Duration::from_micros(rng.below(2_000_000))
            } else {
                Duration::from_micros(200 + rng.below(weather.message_delay_us))
            }
        };
        let first = delay(rng);
        let second = rng.chance(config.duplication, 1_000).then(|| delay(rng));
        [Some(first), second]
    }
}
