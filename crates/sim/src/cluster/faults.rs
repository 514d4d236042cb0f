//! What goes wrong, and how it heals.

use meridian_shard::Request;
use meridian_truetime::MasterFault;
use meridian_types::{Duration, GroupId, NodeId, Timestamp};

use super::calls::NodeCall;
use super::client::key;
use super::options::Fault;
use super::trace::Note;
use super::world::{Cluster, DRIFT_PPM, Event};
use crate::clock::{NodeClock, POLL_INTERVAL};

/// More shards than this only slow a run down.
const SHARDS_MAX: usize = 8;

impl Cluster {
    fn any_node(&mut self) -> NodeId {
        let nodes = u64::from(self.weather().nodes);
        NodeId::new(self.rng.below(nodes) as u32 + 1)
    }

    pub(super) fn any_group(&mut self) -> GroupId {
        let n = self.rng.below(self.shards.len() as u64) as usize;
        *self.shards.values().nth(n).expect("it is below the length")
    }

    /// One fault of a random kind among those that this run has.
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let pause = 50 + self.rng.below(self.weather().fault_pause_ms);
        self.scheduler.after(Duration::from_millis(pause), Event::Fault);
        // How often each kind happens, relative to the others.
        const KINDS: [(Fault, u64); 12] = [
            (Fault::Pause, 3),
            (Fault::Crash, 6),
            (Fault::Partition, 2),
            (Fault::OneWay, 2),
            (Fault::Bridge, 2),
            (Fault::HandOver, 5),
            (Fault::Split, 3),
            (Fault::Clocks, 3),
            (Fault::ClocksBeyond, 1),
            (Fault::Members, 6),
            (Fault::Collect, 4),
            (Fault::Reset, 4),
        ];
        let kinds: Vec<(Fault, u64)> = KINDS.into_iter().filter(|(fault, _)| self.has(*fault)).collect();
        let total: u64 = kinds.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return;
        }
        let mut left = self.rng.below(total);
        let chosen = kinds.into_iter().find(|(_, weight)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        let (kind, _) = chosen.expect("the number is below the total");
        let victim = self.any_node();
        let name = Fault::ALL.iter().find(|(fault, _)| *fault == kind).map_or("", |(_, name)| *name);
        self.trace.note(self.scheduler.now(), Note::Fault { kind: name, node: victim.get() });
        let nodes = self.weather().nodes;
        match kind {
            Fault::Crash if self.rng.chance(1, 12) => {
                // Power is lost for all at once; who comes back first has only its disk to go by.
                self.node_ids().for_each(|node| self.crash(node));
            }
            Fault::Crash => self.crash(victim),
            Fault::Partition => {
                self.network.partition(nodes, &mut self.rng);
                self.heal_network_later();
            }
            Fault::OneWay => {
                self.network.one_way(nodes, victim, &mut self.rng);
                self.heal_network_later();
            }
            Fault::Bridge => {
                self.network.bridge(nodes, victim, &mut self.rng);
                self.heal_network_later();
            }
            // Around the length of a lease.
            Fault::Pause => self.pause(victim, 2_500_000),
            Fault::Reset => {
                self.network.mute(nodes, victim);
                let heals = Duration::from_micros(self.rng.below(20_000));
                self.scheduler.after(heals, Event::HealNetwork);
                // Often more is wrong: before what was lost is sent again the node falls silent.
                if self.rng.chance(1, 2) {
                    let falters = heals + Duration::from_micros(self.rng.below(200_000));
                    self.scheduler.after(falters, Event::Falter { node: victim });
                }
            }
            Fault::HandOver => {
                let group = self.any_group();
                self.stats.hand_overs += 1;
                let from = self.leader_guess(group).unwrap_or(victim);
                self.node_call(from, group, Request::TransferLeader { to: victim }, NodeCall::Ignore);
            }
            Fault::Split => self.split(victim),
            Fault::Members => self.change_members(victim),
            Fault::Collect => self.node_ids().for_each(|node| self.collect(node)),
            Fault::Clocks => self.disturb_within_bounds(victim),
            Fault::ClocksBeyond => self.disturb_beyond_bounds(victim),
            Fault::Loss
            | Fault::Duplication
            | Fault::Reordering
            | Fault::Snapshot
            | Fault::Vanish
            | Fault::Witness
            | Fault::Schema => {
                unreachable!("these happen all the time")
            }
        }
    }

    /// A node stands still for up to `us_max`.
    pub(super) fn pause(&mut self, victim: NodeId, us_max: u64) {
        if self.healed {
            return;
        }
        let until = self.scheduler.now() + Duration::from_micros(self.rng.below(us_max));
        let node = self.node(victim);
        node.asleep_until = node.asleep_until.max(until);
    }

    fn heal_network_later(&mut self) {
        let heals = Duration::from_micros(self.rng.below(3_000_000));
        self.scheduler.after(heals, Event::HealNetwork);
    }

    fn split(&mut self, from: NodeId) {
        if self.shards.len() >= SHARDS_MAX {
            return;
        }
        let at = key(self.rng.below(self.weather().load.keys));
        let group = self.group_of(&at);
        let new_group = GroupId::new(self.next_group);
        self.next_group += 1;
        self.stats.splits += 1;
        self.node_call(from, group, Request::Split { at, new_group }, NodeCall::Ignore);
    }

    fn crash(&mut self, id: NodeId) {
        if !self.nodes[&id].is_up {
            return;
        }
        self.stats.crashes += 1;
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        node.asleep_until = Timestamp::ZERO;
        node.crash(&mut self.rng);
        // Nobody is there to take it up.
        self.awake(id);
        self.node_calls.retain(|_, (node, _)| *node != id);
        self.tells.retain(|(node, _), _| *node != id);
        // Often it is back at once: what a voter has forgotten matters most while others still remember.
        let downtime = if self.rng.chance(1, 3) { 60_000 } else { 1_500_000 };
        let downtime = Duration::from_micros(20_000 + self.rng.below(downtime));
        self.scheduler.after(downtime, Event::Restart { node: id });
    }

    pub(super) fn restart(&mut self, id: NodeId) {
        let at = self.scheduler.now();
        let node = self.node(id);
        if node.is_up {
            return;
        }
        node.is_up = true;
        node.disk_busy_until = at;
        for group in (1..self.next_group).map(GroupId::new) {
            self.open(id, group);
            let removed = self.nodes[&id].replicas.get(&group).filter(|h| h.replica.is_removed());
            if let Some(generation) = removed.map(|h| h.replica.descriptor().generation) {
                self.remove_replica(id, group, generation);
            }
        }
        self.begin_polls(id);
        for group in self.nodes[&id].replicas.keys().copied().collect::<Vec<_>>() {
            self.step(id, group, meridian_shard::Input::Tick);
        }
    }

    /// One master at a time goes wrong, or an oscillator changes its rate within the bound. Erratic clocks have neither.
    fn disturb_within_bounds(&mut self, victim: NodeId) {
        let at = self.scheduler.now();
        if self.rng.chance(1, 2) {
            let rate = 1_000_000 - DRIFT_PPM + self.rng.below(2 * DRIFT_PPM + 1);
            let node = self.node(victim);
            if let NodeClock::Disciplined(clock) = &mut node.clock
                && !node.is_clock_disturbed
            {
                clock.oscillator.set_rate(at, rate);
            }
            return;
        }
        if at < self.masters_busy_until {
            return;
        }
        let master = self.rng.below(self.masters.len() as u64) as usize;
        self.masters[master].fault = self.any_lie(at);
        self.heal_masters_later();
    }

    fn any_lie(&mut self, at: Timestamp) -> MasterFault {
        let far = self.rng.chance(1, 2);
        let reach = if far { 5_000_000_000 } else { 4_000_000 };
        let offset_ns = self.rng.below(2 * reach) as i64 - reach as i64;
        match self.rng.below(4) {
            0 | 1 => MasterFault::Lie { offset_ns },
            2 => MasterFault::Drift { since: at, drift_ppm: self.rng.below(20_000) as i64 - 10_000 },
            _ if self.rng.chance(1, 2) => MasterFault::Stall { at },
            _ => MasterFault::Stop,
        }
    }

    fn heal_masters_later(&mut self) {
        let wrong = Duration::from_millis(500 + self.rng.below(8_000));
        self.scheduler.after(wrong, Event::HealMasters);
        // Samples are used for five polls; a lie must be forgotten before the next master may tell one.
        let forgotten = Duration::from_nanos(7 * POLL_INTERVAL.as_nanos());
        self.masters_busy_until = self.scheduler.now() + wrong + forgotten;
    }

    pub(super) fn heal_masters(&mut self) {
        self.masters.iter_mut().for_each(|master| master.fault = MasterFault::None);
    }

    /// An oscillator races or lags, a machine is suspended, or two masters of three tell the same lie. Whoever it concerns may break I-1
    /// from now on, and is then declared faulty.
    fn disturb_beyond_bounds(&mut self, victim: NodeId) {
        let at = self.scheduler.now();
        let lie = self.rng.chance(1, 4);
        if lie {
            if at < self.masters_busy_until {
                return;
            }
            let fault = self.any_lie(at);
            self.masters[..2].iter_mut().for_each(|master| master.fault = fault);
            for node in self.nodes.values_mut() {
                node.is_clock_disturbed = true;
                node.is_misled = true;
            }
            return self.heal_masters_later();
        }
        const RATES: [u64; 5] = [0, 900_000, 998_000, 1_002_000, 1_300_000];
        let rate = RATES[self.rng.below(RATES.len() as u64) as usize];
        let wrong = Duration::from_millis(200 + self.rng.below(6_000));
        let node = self.nodes.get_mut(&victim).expect("nodes are fixed");
        if let NodeClock::Disciplined(clock) = &mut node.clock {
            node.is_clock_disturbed = true;
            clock.oscillator.set_rate(at, rate);
            if rate == 0 {
                node.asleep_until = node.asleep_until.max(at + wrong);
            }
            self.scheduler.after(wrong, Event::HealOscillator { node: victim });
        }
    }

    pub(super) fn heal_oscillator(&mut self, id: NodeId) {
        let at = self.scheduler.now();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        if let NodeClock::Disciplined(clock) = &mut node.clock {
            clock.oscillator.set_rate(at, 1_000_000);
        }
        // Timers of an oscillator that stood still were put off for ever.
        for group in self.nodes[&id].replicas.keys().copied().collect::<Vec<_>>() {
            self.step(id, group, meridian_shard::Input::Tick);
        }
    }

    pub(super) fn heal_everything(&mut self) {
        self.healed = true;
        self.is_over = true;
        self.network.heal();
        self.network.is_reliable = true;
        self.heal_masters();
        for node in self.node_ids() {
            self.node(node).asleep_until = Timestamp::ZERO;
            self.awake(node);
            self.heal_oscillator(node);
            self.restart(node);
        }
    }
}
