//! What a replica is whatever its role: log, promise, lease vote, membership, and the bookkeeping of one step's
//! outputs.
//!
//! Invariant: `applied <= emitted <= chosen`; `durable <= token`; `promised` never decreases.

use std::collections::VecDeque;

use meridian_types::{Ballot, Duration, NodeId, SeededRng, Slot, Timestamp};

use crate::learner::CatchUp;
use crate::lease::LeaseVoter;
use crate::log::Log;
use crate::planted::Planted;
use crate::{
    Command, Config, Envelope, HardState, LogEntry, MemberKind, Membership, Message, Now, Outputs, Persist,
    PersistToken, Recovered,
};

/// The hard state is written along with other writes when its commit index lags this many slots, so that a restarted
/// replica has little to learn again.
const COMMIT_LAG_SLOTS: u64 = 128;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) rng: SeededRng,
    pub(crate) log: Log,
    pub(crate) promised: Ballot,
    pub(crate) voter: LeaseVoter,
    /// In force for the slot after the chosen prefix.
    pub(crate) membership: Membership,
    /// Whoever has learned this slot knows the membership in force.
    pub(crate) membership_since: Slot,
    /// Given to the shard.
    pub(crate) emitted: Slot,
    pub(crate) applied: Slot,
    /// The highest round seen anywhere, so that the next ballot is above it.
    pub(crate) round: u64,
    pub(crate) leader_hint: Option<NodeId>,
    /// A follower considers an election at this time (monotonic).
    pub(crate) election_at: Timestamp,
    /// The commit index of the leader with this ballot.
    pub(crate) known_commit: (Ballot, Slot),
    pub(crate) catch_up: Option<CatchUp>,
    /// A hand-over received and not yet used: the old leader's ballot and its floor.
    pub(crate) handed_over: Option<(Ballot, Timestamp)>,
    /// What a leader has told this witness to be settled.
    pub(crate) settled: Slot,
    /// Data is applied here.
    pub(crate) holds_data: bool,
    /// The end of the latest lease of this replica, by whichever ballot.
    pub(crate) own_lease_end: Timestamp,
    token: PersistToken,
    durable: PersistToken,
    /// Writes of entries that are not durable: the token that covers them and their lowest slot.
    unwritten: VecDeque<(PersistToken, Slot)>,
    written_commit: Slot,
    /// Writes of the commit index that are not durable.
    commit_writes: VecDeque<(PersistToken, Slot)>,
    /// A restart finds at least this as chosen.
    pub(crate) known: Slot,
    /// What was reported of that, and under which ballot.
    known_told: (Ballot, Slot),
    hard_dirty: bool,
}

impl Core {
    pub(crate) fn recovered(config: Config, recovered: Recovered, now: Now) -> Self {
        let Recovered { hard, truncated, entries, membership, applied } = recovered;
        let has_promised = hard.promised != Ballot::ZERO || hard.vote.is_some();
        let restarted = has_promised && !planted(&config, Planted::NoAbstention);
        let vote = hard.vote.filter(|_| restarted);
        // An entry that was learned as chosen may be of a higher ballot than any promised here, and after the restart it
        // counts as accepted until it is learned again.
        let promised = entries.iter().map(|e| e.ballot).max().unwrap_or_default().max(hard.promised);
        let mut core = Core {
            rng: SeededRng::new(config.seed),
            log: Log::recovered(truncated, applied, hard.commit, entries),
            promised,
            voter: LeaseVoter::new(config.lease, vote, restarted),
            membership,
            membership_since: applied,
            emitted: applied,
            applied,
            round: promised.round.max(hard.vote.map_or(0, |(b, _)| b.round)),
            leader_hint: None,
            election_at: now.mono,
            known_commit: (Ballot::ZERO, Slot::ZERO),
            catch_up: None,
            handed_over: None,
            settled: Slot::ZERO,
            holds_data: true,
            own_lease_end: Timestamp::ZERO,
            token: PersistToken::default(),
            durable: PersistToken::default(),
            unwritten: VecDeque::new(),
            written_commit: hard.commit,
            commit_writes: VecDeque::new(),
            known: hard.commit,
            known_told: (Ballot::ZERO, Slot::ZERO),
            hard_dirty: false,
            config,
        };
        core.known = core.known.min(core.log.chosen());
        core.adopt_membership_of_chosen();
        core.voter.observe(now.tt);
        core.await_leader(now);
        core
    }

    /// The entries between the applied state, whose membership was loaded, and the chosen prefix.
    fn adopt_membership_of_chosen(&mut self) {
        let chosen = self.log.chosen();
        let latest = self.log.from(self.applied.next()).take_while(|e| e.slot <= chosen);
        let latest = latest.filter_map(|e| match &e.command {
            Command::Membership(m) => Some((e.slot, m.clone())),
            Command::Noop | Command::Normal(_) => None,
        });
        if let Some((slot, membership)) = latest.last() {
            self.membership = membership;
            self.membership_since = slot;
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.config.node
    }

    /// True when this replica may lead.
    pub(crate) fn is_voter(&self) -> bool {
        self.membership.is_voter(self.config.node) && self.holds_data
    }

    pub(crate) fn kind(&self) -> Option<MemberKind> {
        self.membership.kind(self.config.node)
    }

    pub(crate) fn is_witness(&self) -> bool {
        self.kind() == Some(MemberKind::Witness)
    }

    /// True when somebody who needs what the log does not hold any more can be given a snapshot.
    pub(crate) fn has_snapshots(&self) -> bool {
        self.kind().is_none_or(MemberKind::holds_data) && self.holds_data
    }

    /// What a leader may count on as learned here. A member that should have data and has none yet has learned nothing: what
    /// it has cut off is in no data engine either.
    pub(crate) fn learned(&self) -> Slot {
        let lacks_data = !self.holds_data && self.kind().is_some_and(MemberKind::holds_data);
        if lacks_data { Slot::ZERO } else { self.log.chosen() }
    }

    pub(crate) fn planted(&self, bug: Planted) -> bool {
        planted(&self.config, bug)
    }

    /// A random part of the election spread.
    pub(crate) fn jitter(&mut self) -> Duration {
        Duration::from_nanos(self.rng.below(self.config.election_spread.as_nanos().max(1)))
    }

    /// No election before a lease that was extended at this moment can be over.
    pub(crate) fn await_leader(&mut self, now: Now) {
        let jitter = self.jitter();
        self.election_at = now.mono + self.config.lease + jitter;
    }

    /// A ballot above every one seen.
    pub(crate) fn next_ballot(&self) -> Ballot {
        Ballot::new(self.round.max(self.promised.round) + 1, self.config.node)
    }

    pub(crate) fn see_round(&mut self, ballot: Ballot) {
        self.round = self.round.max(ballot.round);
    }

    /// Promises `ballot`; durable with this step's writes.
    pub(crate) fn promise(&mut self, ballot: Ballot) {
        assert!(ballot >= self.promised, "the promise would go back from {} to {ballot}", self.promised);
        self.see_round(ballot);
        if ballot > self.promised {
            self.promised = ballot;
            self.hard_dirty = true;
        }
    }

    /// The hard state is to be written in this step.
    pub(crate) fn touch_hard_state(&mut self) {
        self.hard_dirty = true;
    }

    /// The token of this step's writes.
    pub(crate) fn next_token(&self) -> PersistToken {
        PersistToken(self.token.0 + 1)
    }

    pub(crate) fn persisted(&mut self, token: PersistToken) {
        assert!(
            token <= self.token,
            "writes through {token:?} are durable but only {:?} were asked for",
            self.token
        );
        self.durable = self.durable.max(token);
        while self.unwritten.front().is_some_and(|(write, _)| *write <= token) {
            self.unwritten.pop_front();
        }
        while let Some((write, commit)) = self.commit_writes.front()
            && *write <= token
        {
            self.known = self.known.max(*commit);
            self.commit_writes.pop_front();
        }
    }

    /// A witness may have to rely on what this replica knows of the log after a restart.
    pub(crate) fn write_commit(&mut self) {
        if self.membership.has_dataless() && self.log.chosen() > self.written_commit {
            self.touch_hard_state();
        }
    }

    /// Reports what is known durably to the leader with this ballot, where it may let go of something for that; `again`
    /// also where it was told, since that may have been lost.
    pub(crate) fn tell_known(&mut self, leader: NodeId, ballot: Ballot, again: bool, out: &mut Outputs) {
        let is_news = self.known_told < (ballot, self.known);
        if self.membership.has_dataless() && self.has_snapshots() && (is_news || again) {
            self.known_told = (ballot, self.known);
            self.send(leader, Message::Known { through: self.known }, out);
        }
    }

    /// What may be given to the shard: chosen, and durable in the own log. Otherwise the data engine could survive a
    /// crash that the entry does not, and whatever older entry the log holds for the slot would pass for the chosen one.
    fn ready(&self) -> Slot {
        let chosen = self.log.chosen();
        self.unwritten.iter().map(|(_, slot)| slot.prev()).min().map_or(chosen, |s| s.min(chosen))
    }

    /// True when the shard waits for what a step would give it.
    pub(crate) fn has_more(&self) -> bool {
        self.emitted < self.ready()
    }

    /// True when the log ends where it is chosen, all of it is written and given to the shard, and nothing is asked for.
    pub(crate) fn is_settled(&self) -> bool {
        self.log.last() == self.log.chosen()
            && self.durable == self.token
            && self.catch_up.is_none()
            && !self.has_more()
    }

    fn envelope(&self, to: NodeId, message: Message) -> Envelope {
        assert!(to != self.config.node, "a replica would write to itself: {message:?}");
        Envelope { group: self.config.group, from: self.config.node, to, message }
    }

    /// Sends what depends on nothing unwritten.
    pub(crate) fn send(&self, to: NodeId, message: Message, out: &mut Outputs) {
        out.send.push(self.envelope(to, message));
    }

    /// Sends once this step's writes are durable (I-3).
    pub(crate) fn send_durable(&self, to: NodeId, message: Message, out: &mut Outputs) {
        if self.planted(Planted::AnswerBeforeDurable) {
            return self.send(to, message, out);
        }
        out.send_after_persist.push(self.envelope(to, message));
    }

    /// Extends the chosen prefix by one slot. Returns true when the membership changed with it: that it is chosen is
    /// written at once, since a restart that had only the entry would need quorums of the membership before it, too.
    pub(crate) fn choose_next(&mut self) -> bool {
        let Command::Membership(next) = &self.log.choose_next().command else { return false };
        if self.membership == *next {
            return false;
        }
        self.membership = next.clone();
        self.membership_since = self.log.chosen();
        self.touch_hard_state();
        true
    }

    /// Completes the outputs of a step.
    pub(crate) fn finish(&mut self, out: &mut Outputs) {
        let chosen = self.log.chosen();
        let lag = if self.membership.has_dataless() { 1 } else { COMMIT_LAG_SLOTS };
        if !out.persist.is_empty() && chosen.get() - self.written_commit.get() >= lag {
            self.hard_dirty = true;
        }
        if std::mem::take(&mut self.hard_dirty) {
            self.written_commit = chosen;
            let hard = HardState { promised: self.promised, vote: self.voter.durable(), commit: chosen };
            out.persist.push(Persist::HardState(hard));
            self.commit_writes.push_back((self.next_token(), chosen));
        }
        if !out.persist.is_empty() {
            self.token = self.next_token();
            let entries = out.persist.iter().filter_map(|p| match p {
                Persist::Entries(entries) => entries.iter().map(|e| e.slot).min(),
                Persist::HardState(_) | Persist::Truncate(_) => None,
            });
            if let Some(lowest) = entries.min() {
                self.unwritten.push_back((self.token, lowest));
            }
        } else if self.durable == self.token {
            out.send.append(&mut out.send_after_persist);
        }
        out.token = self.token;
        let ready = self.ready();
        while self.emitted < ready {
            self.emitted = self.emitted.next();
            let entry =
                self.log.get(self.emitted).expect("a chosen slot above the applied ones is in the log");
            out.chosen.push(entry.clone());
        }
    }

    pub(crate) fn check_invariants(&self) {
        self.log.check_invariants();
        assert!(self.applied <= self.emitted, "applied {} is above emitted {}", self.applied, self.emitted);
        assert!(
            self.emitted <= self.log.chosen(),
            "emitted {} is above chosen {}",
            self.emitted,
            self.log.chosen()
        );
        assert!(
            self.log.truncated() <= self.applied,
            "truncated {} before it was applied",
            self.log.truncated()
        );
        assert!(
            self.durable <= self.token,
            "durable {:?} is above the last write {:?}",
            self.durable,
            self.token
        );
        let unchosen = self.log.from(self.log.chosen().next());
        let highest = unchosen.map(|e: &LogEntry| e.ballot).max().unwrap_or(Ballot::ZERO);
        assert!(
            highest <= self.promised,
            "an entry was accepted at {highest}, above the promise {}",
            self.promised
        );
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) fn planted(config: &Config, bug: Planted) -> bool {
    config.planted == Some(bug)
}

#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn planted(_config: &Config, _bug: Planted) -> bool {
    false
}
