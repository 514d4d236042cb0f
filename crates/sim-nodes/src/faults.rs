//! What goes wrong in a run, and when it heals.

use std::collections::BTreeMap;

use meridian_truetime::{MasterFault, MasterModel};
use meridian_types::NodeId;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::time::absolute;
use crate::world::World;

/// The error bound of a time master.
pub(crate) const UNCERTAINTY: meridian_types::Duration = meridian_types::Duration::from_micros(500);

/// What heals.
#[derive(Clone, Copy, Debug)]
enum Healing {
    Start(NodeId),
    Thaw(NodeId),
    Links,
    Master(usize),
}

/// The faults of one run: which kinds there are, and what is still to heal.
pub(crate) struct Faults {
    rng: SmallRng,
    next: u64,
    /// The pause between two faults is at most this long, in milliseconds.
    pause: u64,
    healing: BTreeMap<(u64, u64), Healing>,
    planned: u64,
    /// How often each kind happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(crate) fn new(mut rng: SmallRng) -> Self {
        let pause = rng.random_range(1_500..12_000);
        Faults { rng, next: 3_000, pause, healing: BTreeMap::new(), planned: 0, counts: BTreeMap::new() }
    }

    fn heal_after(&mut self, now: u64, ms: u64, healing: Healing) {
        self.planned += 1;
        self.healing.insert((now + ms, self.planned), healing);
    }

    /// Does what is due at `now`.
    pub(crate) fn tick(&mut self, world: &mut World, now: u64) {
        while let Some(entry) = self.healing.first_entry().filter(|e| e.key().0 <= now) {
            heal(world, entry.remove());
        }
        if now >= self.next {
            self.next = now + self.rng.random_range(100..self.pause);
            self.fault(world, now);
        }
    }

    /// Everything heals at once.
    pub(crate) fn heal_all(&mut self, world: &mut World) {
        for healing in std::mem::take(&mut self.healing).into_values() {
            heal(world, healing);
        }
    }

    fn fault(&mut self, world: &mut World, now: u64) {
        let nodes = world.node_ids();
        let victim = nodes[self.rng.random_range(0..nodes.len())];
        let other = nodes[self.rng.random_range(0..nodes.len())];
        let kind = match self.rng.random_range(0..20) {
            0..6 => {
                world.host(victim).crash();
                let ms = self.rng.random_range(50..6_000);
                self.heal_after(now, ms, Healing::Start(victim));
                "crash"
            }
            6 => {
                for node in nodes {
                    world.host(node).crash();
                    let ms = self.rng.random_range(50..2_000);
                    self.heal_after(now, ms, Healing::Start(node));
                }
                "power loss"
            }
            7..11 => {
                world.host(victim).freeze();
                let ms = self.rng.random_range(50..7_000);
                self.heal_after(now, ms, Healing::Thaw(victim));
                "standstill"
            }
            11..14 => {
                for node in nodes.into_iter().filter(|n| *n != victim) {
                    world.network.cut(victim, node);
                    world.network.cut(node, victim);
                }
                let ms = self.rng.random_range(50..8_000);
                self.heal_after(now, ms, Healing::Links);
                "isolation"
            }
            14..18 => {
                world.network.cut(victim, other);
                let ms = self.rng.random_range(50..8_000);
                self.heal_after(now, ms, Healing::Links);
                "one way"
            }
            _ => {
                let number = self.rng.random_range(0..world.masters.len());
                // One at a time: a majority that lies can't be noticed.
                if self.healing.values().any(|h| matches!(h, Healing::Master(_))) {
                    return;
                }
                world.masters[number].lock().fault = match self.rng.random_range(0..3) {
                    0 => MasterFault::Lie { offset_ns: self.rng.random_range(-1_000_000_000..1_000_000_000) },
                    1 => MasterFault::Drift { since: absolute(now), drift_ppm: 5_000 },
                    _ => MasterFault::Stop,
                };
                let ms = self.rng.random_range(500..8_000);
                self.heal_after(now, ms, Healing::Master(number));
                "time master"
            }
        };
        *self.counts.entry(kind).or_default() += 1;
    }
}

fn heal(world: &mut World, healing: Healing) {
    match healing {
        Healing::Start(node) => {
            let now = world.now();
            if !world.host(node).is_up() {
                world.host(node).start(now);
            }
        }
        Healing::Thaw(node) => world.host(node).thaw(),
        Healing::Links => world.network.mend(),
        Healing::Master(number) => *world.masters[number].lock() = MasterModel::gps(UNCERTAINTY),
    }
}
