//! Short paths within a component.

use std::collections::VecDeque;

use crate::anomaly::Dependency;
use crate::graph::{Components, Graph, Kinds, Label, Node};
use crate::history::TxnIndex;

/// A transaction that is left, and the dependency by which.
pub(crate) type Step = (TxnIndex, Dependency);

#[derive(Clone, Copy)]
struct Visit {
    /// The search that this belongs to, so that a search costs what it visits.
    round: u32,
    parent: Node,
    distance: u32,
    is_closed: bool,
}

/// Searches over the edges of some kinds.
pub(crate) struct Search<'a> {
    graph: &'a Graph,
    round: u32,
    visits: Vec<Visit>,
    /// How many more edges may be looked at.
    budget: u64,
}

impl<'a> Search<'a> {
    pub(crate) fn new(graph: &'a Graph, budget: u64) -> Self {
        let visit = Visit { round: 0, parent: Node(0), distance: 0, is_closed: false };
        Search { graph, round: 0, visits: vec![visit; graph.node_count()], budget }
    }

    /// The shortest cycle that begins with the given step to `next` and goes on over edges of `kinds` within a component.
    /// `None` when there is none, or when the budget is spent.
    pub(crate) fn cycle(
        &mut self,
        first: Step,
        next: Node,
        kinds: Kinds,
        components: &Components,
    ) -> Option<Vec<Step>> {
        let goal = Node::from(first.0);
        self.round += 1;
        self.visit(next, next, 0);
        // Only leaving a transaction is a step; passing a helper costs nothing and goes to the front.
        let mut queue = VecDeque::from([next]);
        while let Some(node) = queue.pop_front() {
            if node == goal {
                return Some(self.unwind(first, next, goal, kinds));
            }
            if std::mem::replace(&mut self.visits[node.at()].is_closed, true) {
                continue;
            }
            let here = self.visits[node.at()].distance;
            for (to, label) in self.graph.edges_of(node) {
                self.budget = self.budget.checked_sub(1)?;
                if !kinds.has(*label) || !components.together(next, *to) {
                    continue;
                }
                let is_free = *label == Label::PASS;
                let distance = here + u32::from(!is_free);
                if self.improves(*to, distance) {
                    self.visit(*to, node, distance);
                    match is_free {
                        true => queue.push_front(*to),
                        false => queue.push_back(*to),
                    }
                }
            }
        }
        None
    }

    fn improves(&self, node: Node, distance: u32) -> bool {
        let known = self.visits[node.at()];
        known.round != self.round || (!known.is_closed && distance < known.distance)
    }

    fn visit(&mut self, node: Node, parent: Node, distance: u32) {
        self.visits[node.at()] = Visit { round: self.round, parent, distance, is_closed: false };
    }

    fn unwind(&self, first: Step, next: Node, goal: Node, kinds: Kinds) -> Vec<Step> {
        let mut nodes = vec![goal];
        let mut at = goal;
        while at != next {
            at = self.visits[at.at()].parent;
            nodes.push(at);
        }
        nodes.reverse();
        let mut steps = vec![first];
        for pair in nodes.windows(2).filter(|pair| self.graph.is_transaction(pair[0])) {
            // Of several reasons for one step any that is allowed will do; the weakest kind comes first in the order.
            let edges = self.graph.edges_of(pair[0]).iter();
            let reasons = edges.filter(|(to, label)| *to == pair[1] && kinds.has(*label));
            let reason = reasons.filter_map(|(_, label)| label.dependency()).min();
            steps.push((TxnIndex(pair[0].0), reason.expect("the search came along this edge")));
        }
        steps
    }
}
