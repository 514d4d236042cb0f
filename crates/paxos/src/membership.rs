//! Who counts towards a quorum.
//!
//! A quorum is a majority of voters and witnesses. Memberships change by one voting member at a time, so that any two
//! quorums of adjacent memberships share a member; [`Membership::may_become`] is that rule.
//!
//! # What witnesses keep
//!
//! What is chosen may be with witnesses alone, beside one voter that dies. A voter that leads after that needs it, so a
//! witness keeps every entry until it is *settled*: known as chosen by so many voters that the next leader finds it with a
//! voter. They must know it after a restart, too: what a voter holds without knowing it chosen does not help it against a
//! witness that has nothing to compare it with. So in groups with witnesses voters write their commit index with every
//! other write, and at a heartbeat, and report what is durable ([`crate::Message::Known`]).
//!
//! The next leader is a voter `c` with a quorum. It finds the entry if it has it, or if every quorum has a voter that has
//! it. With `n` voting members, quorums of `q`, and `h` voters that know the entry, a quorum without any of these has at
//! most `n - h` members; so `h > n - q` is enough, and so is `h` = all voters.
//!
//! A change of members may change that number and who counts. A leader therefore proposes a membership with witnesses only
//! if everything that any witness may have dropped is settled in it, too. Nothing beyond what the log held when its
//! leadership began can have been dropped by the word of an earlier leader. An observer, which may become a witness before it
//! knows, keeps what is not settled as a witness does.

use meridian_types::{NodeId, Slot};
use smallvec::SmallVec;

use crate::{MemberKind, Membership};

impl MemberKind {
    /// True for members that apply the log.
    pub fn holds_data(self) -> bool {
        match self {
            MemberKind::Voter | MemberKind::ReadOnly => true,
            MemberKind::Witness | MemberKind::Observer => false,
        }
    }

    /// True for members that count towards a quorum.
    pub fn votes(self) -> bool {
        match self {
            MemberKind::Voter | MemberKind::Witness => true,
            MemberKind::ReadOnly | MemberKind::Observer => false,
        }
    }

    /// As operators know it.
    pub fn name(self) -> &'static str {
        match self {
            MemberKind::Voter => "voter",
            MemberKind::ReadOnly => "read-only",
            MemberKind::Witness => "witness",
            MemberKind::Observer => "observer",
        }
    }
}

impl Membership {
    /// A membership of the given members, in any order.
    ///
    /// # Panics
    /// When a node occurs twice.
    pub fn new(members: impl IntoIterator<Item = (NodeId, MemberKind)>) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable();
        assert!(members.windows(2).all(|w| w[0].0 != w[1].0), "a node is a member twice: {members:?}");
        Membership { members }
    }

    /// A membership of voters only.
    pub fn of_voters(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Membership::new(nodes.into_iter().map(|n| (n, MemberKind::Voter)))
    }

    /// The role of `node`, or `None` where it is not a member.
    pub fn kind(&self, node: NodeId) -> Option<MemberKind> {
        self.members.iter().find(|(n, _)| *n == node).map(|(_, k)| *k)
    }

    /// True when `node` may lead.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.kind(node) == Some(MemberKind::Voter)
    }

    /// True when `node` counts towards a quorum.
    pub fn is_voting(&self, node: NodeId) -> bool {
        self.kind(node).is_some_and(MemberKind::votes)
    }

    /// Voters and witnesses in ascending order.
    pub fn voting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|(_, k)| k.votes()).map(|(n, _)| *n)
    }

    /// How many voters and witnesses make a quorum.
    pub fn quorum(&self) -> usize {
        self.voting().count() / 2 + 1
    }

    /// True when the nodes for which `has` holds include a quorum.
    pub fn has_quorum(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.voting().filter(|n| has(*n)).count() >= self.quorum()
    }

    /// The greatest value that a quorum has reached, given what each voting member has reached.
    ///
    /// # Panics
    /// When nobody votes: such a group can decide nothing.
    pub fn reached_by_quorum<T: Ord + Copy>(&self, reached: impl Fn(NodeId) -> T) -> T {
        let mut values: SmallVec<[T; 8]> = self.voting().map(reached).collect();
        assert!(!values.is_empty(), "a group without voting members has no quorum");
        values.sort_unstable();
        values[values.len() - self.quorum()]
    }

    /// True when some member keeps the log and nothing else.
    pub fn has_witness(&self) -> bool {
        self.members.iter().any(|(_, kind)| *kind == MemberKind::Witness)
    }

    /// True when there is a witness, or somebody who may become one.
    pub fn has_dataless(&self) -> bool {
        self.members.iter().any(|(_, kind)| !kind.holds_data())
    }

    /// What is settled, given what each voter knows durably.
    pub fn settled(&self, known: impl Fn(NodeId) -> Slot) -> Slot {
        let voters = self.members.iter().filter(|(_, kind)| *kind == MemberKind::Voter);
        let mut slots: SmallVec<[Slot; 8]> = voters.map(|(node, _)| known(*node)).collect();
        slots.sort_unstable_by(|a, b| b.cmp(a));
        let enough = (self.voting().count() - self.quorum() + 1).min(slots.len());
        enough.checked_sub(1).map_or(Slot::ZERO, |last| slots[last])
    }

    /// True when `next` may follow this membership: well-formed, with a voter, and with at most one voting member
    /// more or less, so that quorums of both share a member. A new voting member has been a read-only one before.
    pub fn may_become(&self, next: &Membership) -> bool {
        let sorted = next.members.windows(2).all(|w| w[0].0 < w[1].0);
        let has_voter = next.members.iter().any(|(_, k)| *k == MemberKind::Voter);
        let added = next.voting().filter(|n| !self.is_voting(*n)).count();
        let removed = self.voting().filter(|n| !next.is_voting(*n)).count();
        let is_known = next.voting().all(|n| self.kind(n).is_some());
        sorted && has_voter && is_known && added + removed <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(i: u32) -> NodeId {
        NodeId::new(i)
    }

    #[test]
    fn quorum_counts_voters_and_witnesses_only() {
        let m = Membership::new([
            (n(4), MemberKind::ReadOnly),
            (n(1), MemberKind::Voter),
            (n(3), MemberKind::Witness),
            (n(2), MemberKind::Voter),
        ]);
        assert_eq!(m.quorum(), 2);
        assert!(m.has_quorum(|x| x == n(1) || x == n(3)));
        assert!(!m.has_quorum(|x| x == n(1) || x == n(4)));
        assert_eq!(m.reached_by_quorum(|x| x.get() * 10), 20);
    }

    #[test]
    fn settled_is_what_the_next_leader_finds_with_a_voter() {
        use MemberKind::{ReadOnly, Voter, Witness};
        let learned = |node: NodeId| Slot::new([0, 50, 40, 30, 20, 10][node.get() as usize]);
        let cases = [
            // Of two voters both must have it: either may be what the witness's quorum is left with.
            (of([(1, Voter), (2, Voter), (5, Witness)]), 40),
            (of([(1, Voter), (3, Voter), (5, Witness), (2, ReadOnly)]), 30),
            // Of three voters two: a quorum of three of five has at most two witnesses.
            (of([(1, Voter), (2, Voter), (3, Voter), (4, Witness), (5, Witness)]), 30),
            (of([(1, Voter), (2, Voter), (3, Voter), (4, Witness)]), 40),
            (of([(1, Voter), (2, Voter), (3, Voter), (4, Voter), (5, Witness)]), 30),
            (of([(2, Voter), (5, Witness)]), 40),
        ];
        for (membership, expected) in cases {
            assert_eq!(membership.settled(learned), Slot::new(expected), "{membership:?}");
        }
    }

    fn of<const N: usize>(members: [(u32, MemberKind); N]) -> Membership {
        Membership::new(members.map(|(i, kind)| (n(i), kind)))
    }

    #[test]
    fn membership_moves_by_one_voting_member() {
        use MemberKind::{ReadOnly, Voter, Witness};
        let three = of([(1, Voter), (2, Voter), (3, Voter)]);
        let growing = of([(1, Voter), (2, Voter), (3, Voter), (4, ReadOnly), (5, ReadOnly)]);
        let cases = [
            (&three, of([(1, Voter), (2, Voter)]), true),
            (&three, of([(1, Voter), (2, Voter), (3, Witness)]), true),
            (&three, of([(1, Voter), (2, Voter), (3, Voter), (4, ReadOnly)]), true),
            // A stranger first joins read-only.
            (&three, of([(1, Voter), (2, Voter), (3, Voter), (4, Voter)]), false),
            (&three, of([(1, Voter), (2, ReadOnly), (3, ReadOnly)]), false),
            (&three, of([(1, Witness), (2, Witness), (3, Witness)]), false),
            (&growing, of([(1, Voter), (2, Voter), (3, Voter), (4, Voter), (5, ReadOnly)]), true),
            (&growing, of([(1, Voter), (2, Voter), (3, Voter), (4, Voter), (5, Voter)]), false),
            (&growing, of([(1, Voter), (2, Voter), (3, ReadOnly), (4, Voter), (5, ReadOnly)]), false),
        ];
        for (from, next, expected) in cases {
            assert_eq!(from.may_become(&next), expected, "{from:?} to {next:?}");
        }
    }
}
