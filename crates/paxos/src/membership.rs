//! Who counts towards a quorum.
//!
//! A quorum is a majority of voters and witnesses. Memberships change by one voting member at a time, so that any two
//! quorums of adjacent memberships share a member; [`Membership::may_become`] is that rule.

use meridian_types::NodeId;
use smallvec::SmallVec;

use crate::{MemberKind, Membership};

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
        matches!(self.kind(node), Some(MemberKind::Voter | MemberKind::Witness))
    }

    /// Voters and witnesses in ascending order.
    pub fn voting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members
            .iter()
            .filter(|(_, k)| matches!(k, MemberKind::Voter | MemberKind::Witness))
            .map(|(n, _)| *n)
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
