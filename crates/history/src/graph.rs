//! The graph of dependencies, its strongly connected components, and short cycles.
//!
//! Nodes are the transactions, then helper nodes. A helper node only shortens what would be many edges: an edge into one
//! carries the dependency, edges out of one carry none. A path from one transaction through helpers to the next is thus
//! one dependency, that of its first edge.
//!
//! Invariant: helper nodes alone form no cycle.

use crate::anomaly::Dependency;
use crate::history::{Key, TxnIndex};

/// A set of kinds of edges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const WW: Kinds = Kinds(1);
    pub(crate) const WR: Kinds = Kinds(2);
    pub(crate) const RW: Kinds = Kinds(4);
    pub(crate) const RT: Kinds = Kinds(8);
    const PASS: u8 = 16;
    pub(crate) const WW_IN_TIME: Kinds = Kinds(32);
    pub(crate) const RW_IN_TIME: Kinds = Kinds(64);

    pub(crate) const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    pub(crate) fn has_all(self, other: Kinds) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn has(self, label: Label) -> bool {
        (self.0 | Self::PASS) & label.bit() != 0
    }
}

/// What an edge says, in four bytes: a key and the number of a kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Label(u32);

impl Label {
    pub(crate) const PASS: Label = Label(4);

    fn of(dependency: Dependency) -> Label {
        match dependency {
            Dependency::WriteWrite(key) => Label(key.0 << 3),
            Dependency::WriteRead(key) => Label(key.0 << 3 | 1),
            Dependency::ReadWrite(key) => Label(key.0 << 3 | 2),
            Dependency::RealTime => Label(3),
            Dependency::WriteWriteInTime(key) => Label(key.0 << 3 | 5),
            Dependency::ReadWriteInTime(key) => Label(key.0 << 3 | 6),
        }
    }

    fn bit(self) -> u8 {
        1 << (self.0 & 7)
    }

    pub(crate) fn dependency(self) -> Option<Dependency> {
        let key = Key(self.0 >> 3);
        match self.0 & 7 {
            0 => Some(Dependency::WriteWrite(key)),
            1 => Some(Dependency::WriteRead(key)),
            2 => Some(Dependency::ReadWrite(key)),
            3 => Some(Dependency::RealTime),
            5 => Some(Dependency::WriteWriteInTime(key)),
            6 => Some(Dependency::ReadWriteInTime(key)),
            _ => None,
        }
    }
}

/// A node: a transaction or a helper.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Node(pub(crate) u32);

impl Node {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

impl From<TxnIndex> for Node {
    fn from(txn: TxnIndex) -> Node {
        Node(txn.0)
    }
}

/// Collects edges.
pub(crate) struct GraphBuilder {
    transactions: u32,
    nodes: u32,
    edges: Vec<(Node, Node, Label)>,
}

impl GraphBuilder {
    pub(crate) fn new(transactions: usize) -> Self {
        let transactions = u32::try_from(transactions).expect("a history's events are counted in 32 bits");
        GraphBuilder { transactions, nodes: transactions, edges: Vec::new() }
    }

    pub(crate) fn helper(&mut self) -> Node {
        self.nodes = self.nodes.checked_add(1).expect("helpers are fewer than events");
        Node(self.nodes - 1)
    }

    /// `from` comes before what is at or behind `to`.
    pub(crate) fn depend(&mut self, from: TxnIndex, to: Node, dependency: Dependency) {
        if Node::from(from) != to {
            self.edges.push((from.into(), to, Label::of(dependency)));
        }
    }

    /// Whatever comes before `helper` comes before `to`.
    pub(crate) fn pass(&mut self, helper: Node, to: Node) {
        assert!(helper.0 >= self.transactions, "only helpers pass on");
        self.edges.push((helper, to, Label::PASS));
    }

    pub(crate) fn build(self) -> Graph {
        let mut starts = vec![0usize; self.nodes as usize + 1];
        for (from, ..) in &self.edges {
            starts[from.at() + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut edges = vec![(Node(0), Label::PASS); self.edges.len()];
        for (from, to, label) in self.edges {
            edges[next[from.at()]] = (to, label);
            next[from.at()] += 1;
        }
        Graph { transactions: self.transactions, starts, edges }
    }
}

/// Edges by node.
pub(crate) struct Graph {
    transactions: u32,
    starts: Vec<usize>,
    edges: Vec<(Node, Label)>,
}

/// Which component each node is in.
pub(crate) struct Components {
    of: Vec<u32>,
    /// Components with a cycle, each with its nodes in order.
    pub(crate) cyclic: Vec<Vec<Node>>,
}

impl Components {
    pub(crate) fn together(&self, a: Node, b: Node) -> bool {
        self.of[a.at()] == self.of[b.at()]
    }

    /// A number of the node's component.
    pub(crate) fn of(&self, node: Node) -> u32 {
        self.of[node.at()]
    }
}

const UNSEEN: u32 = u32::MAX;

impl Graph {
    pub(crate) fn edges_of(&self, node: Node) -> &[(Node, Label)] {
        &self.edges[self.starts[node.at()]..self.starts[node.at() + 1]]
    }

    pub(crate) fn edge_count(&self) -> usize {
        self.edges.len()
    }

    pub(crate) fn node_count(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn is_transaction(&self, node: Node) -> bool {
        node.0 < self.transactions
    }

    /// The edges of a transaction that are of one kind, with the nodes that they lead to.
    pub(crate) fn steps(&self, from: Node, kind: Kinds) -> impl Iterator<Item = (Node, Dependency)> {
        let wanted = move |label: Label| kind.0 & label.bit() != 0;
        self.edges_of(from)
            .iter()
            .filter(move |(_, label)| wanted(*label))
            .filter_map(|(to, label)| Some((*to, label.dependency()?)))
    }

    /// Tarjan's algorithm over the edges of some kinds, without recursion. No edge leads from a node to itself, so a
    /// component has a cycle when it has two nodes.
    pub(crate) fn components(&self, kinds: Kinds) -> Components {
        let n = self.starts.len() - 1;
        let mut of = vec![UNSEEN; n];
        let (mut index, mut low) = (vec![UNSEEN; n], vec![0u32; n]);
        let mut cursor = self.starts.clone();
        let (mut stack, mut path) = (Vec::new(), Vec::new());
        let (mut counter, mut components) = (0, 0);
        let mut cyclic = Vec::new();
        for root in 0..n {
            if index[root] != UNSEEN {
                continue;
            }
            path.push(root);
            while let Some(&at) = path.last() {
                if index[at] == UNSEEN {
                    index[at] = counter;
                    low[at] = counter;
                    counter += 1;
                    stack.push(at);
                }
                let end = self.starts[at + 1];
                let mut descend = None;
                while cursor[at] < end {
                    let (to, label) = self.edges[cursor[at]];
                    if kinds.has(label) && of[to.at()] == UNSEEN {
                        if index[to.at()] == UNSEEN {
                            descend = Some(to.at());
                            break;
                        }
                        low[at] = low[at].min(low[to.at()]);
                    }
                    cursor[at] += 1;
                }
                if let Some(to) = descend {
                    path.push(to);
                    continue;
                }
                path.pop();
                if low[at] == index[at] {
                    let from = stack.iter().rposition(|n| *n == at).expect("a root is on the stack");
                    let mut members: Vec<Node> = stack.drain(from..).map(|n| Node(n as u32)).collect();
                    members.iter().for_each(|n| of[n.at()] = components);
                    components += 1;
                    if members.len() > 1 {
                        members.sort_unstable();
                        cyclic.push(members);
                    }
                }
                if let Some(&parent) = path.last() {
                    low[parent] = low[parent].min(low[at]);
                }
            }
        }
        Components { of, cyclic }
    }
}
