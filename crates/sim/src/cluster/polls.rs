//! Nodes with disciplined clocks poll the time masters.

use meridian_types::{Duration, NodeId};

use super::options::Clocks;
use super::trace::Note;
use super::world::{Cluster, Event, Life};
use crate::clock::{MASTERS, NodeClock, POLL_INTERVAL, Poll};

impl Cluster {
    /// Each master is polled at a moment of its own.
    pub(super) fn begin_polls(&mut self, node: NodeId) {
        if !matches!(self.weather().clocks, Clocks::Disciplined) {
            return;
        }
        let life = self.life(node);
        for master in 0..MASTERS {
            let first = Duration::from_micros(self.rng.below(20_000));
            self.scheduler.after(first, Event::Poll { life, master });
        }
    }

    pub(super) fn poll(&mut self, life: Life, master: u32) {
        self.scheduler.after(POLL_INTERVAL, Event::Poll { life, master });
        let at = self.scheduler.now();
        let NodeClock::Disciplined(clock) = &self.nodes[&life.node].clock else { return };
        let (done, poll) = clock.poll(master, &self.masters[master as usize], at, &mut self.rng);
        self.scheduler.at(done, Event::PollDone { life, poll });
    }

    pub(super) fn poll_done(&mut self, id: NodeId, poll: Poll) {
        let at = self.scheduler.now();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        let NodeClock::Disciplined(clock) = &mut node.clock else { return };
        let is_sure = clock.poll_done(poll, at);
        self.trace.note(at, Note::Clock { node: id.get(), is_sure });
        let read = self.monitor.reading(id, node.now(at), at, node.is_clock_disturbed);
        let is_misled = node.is_misled;
        let noticed = || if is_misled { Ok(()) } else { self.monitor.check_noticed(id, at) };
        if let Err(broken) = read.and_then(|()| noticed()) {
            self.fail(broken);
        }
    }
}
