//! Learning what is chosen: from the leader's commit index where the own accept has the leader's ballot, otherwise by
//! asking somebody who knows.

use meridian_types::{Ballot, Duration, NodeId, Slot, Timestamp};

use crate::core::Core;
use crate::log::{MESSAGE_BYTES_MAX, entry_bytes};
use crate::planted::Planted;
use crate::{LogEntry, Membership, Message, Now, Outputs, Persist};

/// A snapshot takes this many retransmission times before it is asked for again.
const SNAPSHOT_PATIENCE: u64 = 10;

/// A question for chosen entries that is not fully answered.
#[derive(Debug)]
pub(crate) struct CatchUp {
    peer: NodeId,
    /// What the peer knows as chosen.
    goal: Slot,
    retry_at: Timestamp,
    /// The peer has truncated what is missing here, and was asked for a snapshot.
    awaits_snapshot: bool,
}

impl CatchUp {
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        Some(self.retry_at)
    }
}

impl Core {
    /// The leader with `ballot` says that everything up to `commit` is chosen.
    pub(crate) fn learn_commit(&mut self, ballot: Ballot, commit: Slot) {
        if ballot > self.known_commit.0 {
            self.known_commit = (ballot, commit);
        } else if ballot == self.known_commit.0 {
            self.known_commit.1 = self.known_commit.1.max(commit);
        }
        self.choose_accepted();
    }

    /// What was accepted at the ballot of the leader that knows it chosen is what was chosen. What was accepted at
    /// another ballot may be something else.
    fn choose_accepted(&mut self) {
        let (ballot, commit) = self.known_commit;
        while self.log.chosen() < commit {
            let Some(entry) = self.log.get(self.log.chosen().next()) else { return };
            if entry.ballot != ballot && !self.planted(Planted::CommitAnyBallot) {
                return;
            }
            self.choose_next();
        }
    }

    /// `peer` knows everything up to `goal` as chosen; asks for what is missing here.
    pub(crate) fn want(&mut self, peer: NodeId, goal: Slot, now: Now, out: &mut Outputs) {
        if goal <= self.log.chosen() {
            return;
        }
        let catch_up =
            self.catch_up.get_or_insert(CatchUp { peer, goal, retry_at: now.mono, awaits_snapshot: false });
        catch_up.goal = catch_up.goal.max(goal);
        if catch_up.peer != peer {
            // Whoever spoke last is likeliest to be alive; and while one peer streams a snapshot another may still have
            // the log.
            catch_up.peer = peer;
            if std::mem::take(&mut catch_up.awaits_snapshot) {
                catch_up.retry_at = now.mono;
            }
        }
        self.retry_catch_up(now, out);
    }

    /// Asks, or asks again, when it is time.
    pub(crate) fn retry_catch_up(&mut self, now: Now, out: &mut Outputs) {
        let chosen = self.log.chosen();
        self.catch_up.take_if(|c| c.goal <= chosen);
        let Some(catch_up) = &mut self.catch_up else { return };
        if now.mono < catch_up.retry_at {
            return;
        }
        catch_up.retry_at = now.mono + self.config.retransmit;
        catch_up.awaits_snapshot = false;
        let peer = catch_up.peer;
        self.send(peer, Message::CatchUp { from_slot: chosen.next() }, out);
    }

    pub(crate) fn on_catch_up(&self, from: NodeId, from_slot: Slot, out: &mut Outputs) {
        let truncated = self.log.truncated();
        if from_slot <= truncated {
            if !self.has_snapshots() {
                return;
            }
            self.send(from, Message::NeedSnapshot { truncated }, out);
            out.snapshot_to.push(from);
            return;
        }
        let chosen = self.log.chosen();
        let mut bytes = 0;
        let entries = self.log.from(from_slot).take_while(|e| e.slot <= chosen);
        let entries = entries.take_while(|e| {
            let is_first = bytes == 0;
            bytes += entry_bytes(e);
            is_first || bytes <= MESSAGE_BYTES_MAX
        });
        self.send(from, Message::Learn { entries: entries.cloned().collect(), chosen }, out);
    }

    pub(crate) fn on_learn(
        &mut self,
        from: NodeId,
        mut entries: Vec<LogEntry>,
        chosen: Slot,
        now: Now,
        out: &mut Outputs,
    ) {
        let before = self.log.chosen();
        entries.retain(|entry| {
            if entry.slot != self.log.chosen().next() {
                return false;
            }
            let is_new = self.log.learn(entry);
            self.choose_next();
            is_new
        });
        if !entries.is_empty() {
            out.persist.push(Persist::Entries(entries));
        }
        self.choose_accepted();
        if self.log.chosen() > before
            && let Some(catch_up) = &mut self.catch_up
        {
            catch_up.retry_at = now.mono;
        }
        self.heard(now);
        self.want(from, chosen, now, out);
    }

    pub(crate) fn on_need_snapshot(&mut self, from: NodeId, truncated: Slot, now: Now) {
        if truncated <= self.log.chosen() {
            return;
        }
        if let Some(catch_up) = self.catch_up.as_mut().filter(|c| c.peer == from) {
            let patience = self.config.retransmit.as_nanos() * SNAPSHOT_PATIENCE;
            catch_up.retry_at = now.mono + Duration::from_nanos(patience);
            catch_up.awaits_snapshot = true;
        }
        self.await_leader(now);
    }

    pub(crate) fn snapshot_installed(&mut self, applied: Slot, membership: Membership, out: &mut Outputs) {
        if applied <= self.log.chosen() {
            // The shard goes on from there, whatever it was given before.
            self.applied = self.applied.max(applied);
            self.emitted = self.applied;
            return;
        }
        self.log.restart_after(applied);
        self.membership = membership;
        self.membership_since = applied;
        self.emitted = applied;
        self.applied = applied;
        // Whether more is missing the leader will say.
        self.catch_up = None;
        out.persist.push(Persist::Truncate(applied));
        self.touch_hard_state();
        self.choose_accepted();
    }
}
