//! Where a shard's clients are: what its leader counts, and the node that it should therefore be led by.
//!
//! A client at a node that does not lead pays a message there and back for each locking read, and its node and the leader's
//! code and decode each of them. Where one other node asks for nearly everything, second after second, it had better
//! lead. Whoever looks is to see to it that the node is fit to.
//!
//! ```text
//!   a look (about every second)    asked by    most of it from    in a row
//!   1                              5,000       node 3, 100 %      1
//!   2                              4,800       node 3,  98 %      2
//!   3                              5,100       node 3,  99 %      3 -> node 3
//! ```
//! Leadership that has just come is left where it is for a while, so that two nodes with the same share do not pass it
//! to and fro.

use meridian_types::{Duration, NodeId, Timestamp};

/// A node asks for nearly everything with four requests of five.
const MOST: (u64, u64) = (4, 5);

/// Less in a second is not worth a hand-over, in which transactions that hold locks are run again.
const REQUESTS_MIN: u64 = 100;

/// So many looks in a row must show the same node.
const LOOKS: u32 = 3;

/// For how long leadership stays where it has come to.
const STAY: Duration = Duration::from_secs(10);

/// What a leader knows of where its clients are.
#[derive(Debug)]
pub(crate) struct Demand {
    /// Requests since the last look, by the node that sent them. A handful at most.
    requests: Vec<(NodeId, u64)>,
    since: Timestamp,
    /// The node that asked for most at the last looks, and at how many of them.
    most: Option<(NodeId, u32)>,
    looked_at: Timestamp,
}

impl Demand {
    /// Nothing was asked yet. A leader begins anew when leadership comes to it, at `now` (monotonic).
    pub(crate) fn new(now: Timestamp) -> Self {
        Demand { requests: Vec::new(), since: now, most: None, looked_at: now }
    }

    /// A node has asked for something.
    pub(crate) fn note(&mut self, from: NodeId) {
        match self.requests.iter_mut().find(|(node, _)| *node == from) {
            Some((_, count)) => *count += 1,
            None => self.requests.push((from, 1)),
        }
    }

    /// Looks at what was asked since the last time, at `now` (monotonic). The node that should lead instead of `me`.
    pub(crate) fn look(&mut self, me: NodeId, now: Timestamp) -> Option<NodeId> {
        let elapsed = now.since(self.looked_at);
        self.looked_at = now;
        let requests = std::mem::take(&mut self.requests);
        let total: u64 = requests.iter().map(|(_, count)| count).sum();
        let per_second = u128::from(total) * 1_000_000_000;
        let is_busy = per_second >= u128::from(REQUESTS_MIN) * u128::from(elapsed.as_nanos());
        let most = requests.iter().find(|(_, count)| is_busy && count * MOST.1 >= total * MOST.0);
        self.most = most.map(|(node, _)| match self.most {
            Some((before, looks)) if before == *node => (*node, looks + 1),
            _ => (*node, 1),
        });
        let (node, looks) = self.most?;
        (node != me && looks >= LOOKS && now.since(self.since) >= STAY).then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId::new(1);

    struct Leader {
        demand: Demand,
        second: u64,
    }

    impl Leader {
        fn new(second: u64) -> Self {
            Leader { demand: Demand::new(Timestamp::from_nanos(second * 1_000_000_000)), second }
        }

        /// One that leads for as long as it takes.
        fn settled() -> Self {
            let mut leader = Leader::new(100);
            leader.second += 10;
            assert_eq!(leader.second(&[]), None);
            leader
        }

        /// A second in which nodes have asked so many times, and the look behind it.
        fn second(&mut self, asked: &[(u32, u64)]) -> Option<u32> {
            for (node, count) in asked {
                (0..*count).for_each(|_| self.demand.note(NodeId::new(*node)));
            }
            self.second += 1;
            let now = Timestamp::from_nanos(self.second * 1_000_000_000);
            self.demand.look(ME, now).map(NodeId::get)
        }
    }

    #[test]
    fn the_node_that_asks_for_nearly_all_of_it_for_three_seconds_should_lead() {
        let mut leader = Leader::settled();
        assert_eq!(leader.second(&[(3, 500), (1, 20)]), None);
        assert_eq!(leader.second(&[(3, 500), (1, 20)]), None);
        assert_eq!(leader.second(&[(3, 500), (1, 20)]), Some(3));
        assert_eq!(leader.second(&[(3, 500), (1, 20)]), Some(3), "until it does");
    }

    #[test]
    fn the_leader_stays_where_clients_are_here_or_everywhere_or_few() {
        for asked in [&[(1, 500)][..], &[(2, 300), (3, 300)], &[(3, 500), (1, 126)], &[(3, 99)], &[]] {
            let mut leader = Leader::settled();
            for _ in 0..10 {
                assert_eq!(leader.second(asked), None, "{asked:?}");
            }
        }
        let mut leader = Leader::settled();
        for second in 0..10 {
            assert_eq!(leader.second(&[(2 + second % 2, 500)]), None, "now one and then the other");
        }
    }

    #[test]
    fn what_has_just_come_stays() {
        let mut leader = Leader::new(100);
        for _ in 0..9 {
            assert_eq!(leader.second(&[(3, 500)]), None);
        }
        assert_eq!(leader.second(&[(3, 500)]), Some(3));
    }
}
