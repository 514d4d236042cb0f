//! The cached shard map: which shard holds a key, and who leads it.
//!
//! Everything here is a guess that the shards correct: `WrongShard` brings a descriptor, `NotLeader` a hint. The map
//! is a partition of (a part of) the keyspace into pieces, each pointing to the shard believed to hold it. A piece may
//! be smaller than its shard's descriptor says, when another descriptor of a greater generation claims the rest.
//!
//! Invariants: pieces do not overlap; where two descriptors claim a key, the one of the greater generation has it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use meridian_paxos::MemberKind;
use meridian_shard::ShardDescriptor;
use meridian_types::{GroupId, Key, NodeId, Span};
use parking_lot::RwLock;

use crate::limits::CACHED_PIECES_MAX;
use crate::meta::ROOT_GROUP;

/// A shard as the gateway knows it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) descriptor: ShardDescriptor,
    /// Who leads, as far as is known; 0 where nothing is.
    leader: AtomicU32,
    /// Held by the one search for the leader; everybody else waits for its result.
    pub(crate) search: tokio::sync::Mutex<()>,
}

impl Shard {
    pub(crate) fn new(descriptor: ShardDescriptor, leader: Option<NodeId>) -> Self {
        let leader = AtomicU32::new(leader.map_or(0, NodeId::get));
        Shard { descriptor, leader, search: tokio::sync::Mutex::new(()) }
    }

    pub(crate) fn group(&self) -> GroupId {
        self.descriptor.group
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.leader.load(Ordering::Relaxed) {
            0 => None,
            node => Some(NodeId::new(node)),
        }
    }

    pub(crate) fn set_leader(&self, node: NodeId) {
        if self.leader.load(Ordering::Relaxed) != node.get() {
            self.leader.store(node.get(), Ordering::Relaxed);
        }
    }

    /// Forgets the leader if it is still believed to be `node`.
    pub(crate) fn not_leader(&self, node: NodeId) {
        let _ = self.leader.compare_exchange(node.get(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The replicas that may lead.
    pub(crate) fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.descriptor.replicas.iter().filter(|(_, kind)| *kind == MemberKind::Voter).map(|(node, _)| *node)
    }

    /// Where a replica with data lives.
    pub(crate) fn nodes_with_data(&self) -> impl Iterator<Item = NodeId> {
        self.descriptor.replicas.iter().filter(|(_, kind)| kind.holds_data()).map(|(node, _)| *node)
    }

    /// True when a replica with data lives on `node`.
    pub(crate) fn has_data_on(&self, node: NodeId) -> bool {
        self.nodes_with_data().any(|n| n == node)
    }
}

/// A shard and the part of it that the map gives to it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) shard: Arc<Shard>,
    pub(crate) span: Span,
}

/// The end of a piece, ordered with infinity last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    At(Key),
    Infinity,
}

impl End {
    fn of(end: Option<&Key>) -> End {
        end.map_or(End::Infinity, |key| End::At(key.clone()))
    }

    fn key(&self) -> Option<Key> {
        match self {
            End::At(key) => Some(key.clone()),
            End::Infinity => None,
        }
    }
}

#[derive(Debug)]
struct Piece {
    start: Key,
    shard: Arc<Shard>,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Router {
    pieces: RwLock<BTreeMap<End, Piece>>,
    /// The shard that holds the shard map, which is never looked up.
    root: RwLock<Arc<Shard>>,
    /// All nodes that are known: one of them has the root shard, whatever became of those that had it first.
    nodes: RwLock<Vec<NodeId>>,
    /// One lookup at a time: the others find its result in the cache.
    pub(crate) lookup: tokio::sync::Mutex<()>,
}

impl Router {
    /// A cache that knows only where the root shard is.
    pub(crate) fn new(bootstrap: &[NodeId]) -> Self {
        let mut replicas: Vec<_> = bootstrap.iter().map(|node| (*node, MemberKind::Voter)).collect();
        replicas.sort();
        let root = ShardDescriptor { group: ROOT_GROUP, span: Span::ALL, generation: 0, replicas };
        Router {
            pieces: RwLock::new(BTreeMap::new()),
            root: RwLock::new(Arc::new(Shard::new(root, None))),
            nodes: RwLock::new(bootstrap.to_vec()),
            lookup: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn root(&self) -> Arc<Shard> {
        Arc::clone(&self.root.read())
    }

    /// The nodes of the cluster.
    pub(crate) fn set_nodes(&self, nodes: Vec<NodeId>) {
        *self.nodes.write() = nodes;
    }

    /// Who may lead a shard: its voters as far as is known, and for the root shard, whose place is in no other one's
    /// records, any node.
    pub(crate) fn candidates(&self, shard: &Shard) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = shard.voters().collect();
        if shard.group() == ROOT_GROUP {
            nodes.extend(self.nodes.read().iter());
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The shard of a key, if cached.
    pub(crate) fn shard(&self, key: &Key) -> Option<Arc<Shard>> {
        let pieces = self.pieces.read();
        let (_, piece) = pieces.range((Bound::Excluded(End::At(key.clone())), Bound::Unbounded)).next()?;
        (piece.start <= *key).then(|| Arc::clone(&piece.shard))
    }

    /// The shard of a key and its piece, if cached.
    pub(crate) fn route(&self, key: &Key) -> Option<Route> {
        let pieces = self.pieces.read();
        let (end, piece) = pieces.range((Bound::Excluded(End::At(key.clone())), Bound::Unbounded)).next()?;
        (piece.start <= *key).then(|| piece.route(end))
    }

    /// The shard that holds the keys just before `end`, if cached.
    pub(crate) fn route_before(&self, end: Option<&Key>) -> Option<Route> {
        let wanted = End::of(end);
        let pieces = self.pieces.read();
        let (found, piece) = pieces.range(&wanted..).next()?;
        end.is_none_or(|end| piece.start < *end).then(|| piece.route(found))
    }

    /// Takes in a descriptor. False when a newer descriptor of the same group is cached already.
    pub(crate) fn learn(&self, descriptor: &ShardDescriptor) -> bool {
        self.learn_root(descriptor);
        let mut pieces = self.pieces.write();
        if pieces.len() > CACHED_PIECES_MAX {
            pieces.clear();
        }
        let span = &descriptor.span;
        let overlapping: Vec<(End, Key, Arc<Shard>)> = pieces
            .range((Bound::Excluded(End::At(span.start.clone())), Bound::Unbounded))
            .take_while(|(_, piece)| span.end.as_ref().is_none_or(|end| piece.start < *end))
            .map(|(end, piece)| (end.clone(), piece.start.clone(), Arc::clone(&piece.shard)))
            .collect();
        let same_group =
            overlapping.iter().map(|(_, _, shard)| shard).find(|s| s.group() == descriptor.group);
        if same_group.is_some_and(|known| known.descriptor.generation > descriptor.generation) {
            return false;
        }
        let leader = same_group.and_then(|known| known.leader());
        let shard = Arc::new(Shard::new(descriptor.clone(), leader));
        let mut cursor = Some(span.start.clone());
        for (end, start, other) in overlapping {
            if other.descriptor.generation > descriptor.generation {
                if let Some(from) = cursor.take().filter(|from| *from < start) {
                    pieces.insert(End::At(start), Piece { start: from, shard: Arc::clone(&shard) });
                }
                cursor = end.key();
                if cursor.is_none() {
                    return true;
                }
            } else {
                carve(&mut pieces, span, end, start, &other, descriptor.group);
            }
        }
        if let Some(from) = cursor.filter(|from| span.contains(from.as_bytes())) {
            pieces.insert(End::of(span.end.as_ref()), Piece { start: from, shard });
        }
        true
    }

    fn learn_root(&self, descriptor: &ShardDescriptor) {
        if descriptor.group != ROOT_GROUP {
            return;
        }
        let mut root = self.root.write();
        if descriptor.generation > root.descriptor.generation {
            *root = Arc::new(Shard::new(descriptor.clone(), root.leader()));
        }
    }

    /// Takes in the descriptor with which a shard answered that it does not hold what it was asked for, and drops
    /// everything older that is cached about its group.
    pub(crate) fn learn_moved(&self, asked: &Shard, descriptor: &ShardDescriptor) {
        let is_news = self.learn(descriptor) && descriptor.generation > asked.descriptor.generation;
        if !is_news {
            // A piece disagrees with its own descriptor; asking the map again is the way out.
            return self.forget(asked);
        }
        let is_older =
            |d: &ShardDescriptor| d.group == descriptor.group && d.generation < descriptor.generation;
        self.pieces.write().retain(|_, piece| !is_older(&piece.shard.descriptor));
    }

    /// Drops what is cached about a shard: its group is nowhere to be found.
    pub(crate) fn forget(&self, shard: &Shard) {
        self.pieces.write().retain(|_, piece| piece.shard.group() != shard.group());
    }
}

impl Piece {
    fn route(&self, end: &End) -> Route {
        Route { shard: Arc::clone(&self.shard), span: Span::new(self.start.clone(), end.key()) }
    }
}

/// Takes `span` out of an older piece. What remains of it outside keeps pointing to its shard, unless the newer
/// descriptor is of the same group and thus says that the group holds no more than `span`.
fn carve(
    pieces: &mut BTreeMap<End, Piece>,
    span: &Span,
    end: End,
    start: Key,
    shard: &Arc<Shard>,
    newer_group: GroupId,
) {
    pieces.remove(&end);
    if shard.group() == newer_group {
        return;
    }
    if let Some(span_end) = span.end.as_ref().filter(|span_end| end > End::At((*span_end).clone())) {
        pieces.insert(end, Piece { start: span_end.clone(), shard: Arc::clone(shard) });
    }
    if start < span.start {
        pieces.insert(End::At(span.start.clone()), Piece { start, shard: Arc::clone(shard) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(group: u64, generation: u64, start: &str, end: Option<&str>) -> ShardDescriptor {
        let key = |s: &str| Key::copy_from(s.as_bytes());
        let span = Span::new(key(start), end.map(key));
        let replicas = vec![(NodeId::new(1), MemberKind::Voter)];
        ShardDescriptor { group: GroupId::new(group), span, generation, replicas }
    }

    /// The map as `group[start,end)` pieces.
    fn dump(router: &Router) -> String {
        let pieces = router.pieces.read();
        let text = |k: &Key| k.as_bytes().escape_ascii().to_string();
        let piece = |(end, p): (&End, &Piece)| {
            let end = end.key().map_or("~".into(), |k| text(&k));
            format!("{}[{},{})", p.shard.group(), text(&p.start), end)
        };
        pieces.iter().map(piece).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newer_descriptor_wins_whatever_the_order() {
        let (parent, left, right) =
            (descriptor(2, 5, "a", None), descriptor(2, 6, "a", Some("m")), descriptor(3, 6, "m", None));
        let orders: [([&ShardDescriptor; 3], &str); 4] = [
            ([&parent, &left, &right], "2[a,m) 3[m,~)"),
            ([&parent, &right, &left], "2[a,m) 3[m,~)"),
            ([&right, &parent, &left], "2[a,m) 3[m,~)"),
            ([&left, &right, &parent], "2[a,m) 3[m,~)"),
        ];
        for (order, expected) in orders {
            let router = Router::new(&[]);
            for d in order {
                router.learn(d);
            }
            assert_eq!(dump(&router), expected);
        }
    }

    #[test]
    fn older_pieces_keep_what_nobody_else_claims() {
        let router = Router::new(&[]);
        assert!(router.learn(&descriptor(2, 5, "a", None)));
        assert!(router.learn(&descriptor(3, 6, "f", Some("m"))));
        assert_eq!(dump(&router), "2[a,f) 3[f,m) 2[m,~)");
        // The group's own newer descriptor says that the rest is somebody else's.
        let asked = router.shard(&Key::copy_from(b"z")).unwrap();
        router.learn_moved(&asked, &descriptor(2, 7, "a", Some("f")));
        assert_eq!(dump(&router), "2[a,f) 3[f,m)");
        assert!(!router.learn(&descriptor(2, 6, "a", None)), "older than what is known of the group");
        assert_eq!(dump(&router), "2[a,f) 3[f,m)");
        // A shard that denies holding what its newest known descriptor says it holds is forgotten.
        let asked = router.shard(&Key::copy_from(b"b")).unwrap();
        router.learn_moved(&asked, &descriptor(2, 7, "a", Some("f")));
        assert_eq!(dump(&router), "3[f,m)");
    }

    #[test]
    fn lookups_find_the_piece_and_only_it() {
        let router = Router::new(&[]);
        router.learn(&descriptor(2, 1, "b", Some("f")));
        router.learn(&descriptor(3, 1, "m", None));
        let group = |key: &str| router.shard(&Key::copy_from(key.as_bytes())).map(|s| s.group().get());
        assert_eq!(
            ["a", "b", "e", "f", "l", "m", "z"].map(group),
            [None, Some(2), Some(2), None, None, Some(3), Some(3)]
        );
        let before = |key: Option<&str>| {
            let key = key.map(|k| Key::copy_from(k.as_bytes()));
            router.route_before(key.as_ref()).map(|r| r.shard.group().get())
        };
        assert_eq!(
            [Some("b"), Some("c"), Some("f"), Some("g"), Some("n"), None].map(before),
            [None, Some(2), Some(2), None, Some(3), Some(3)]
        );
        let shard = router.shard(&Key::copy_from(b"c")).unwrap();
        shard.set_leader(NodeId::new(7));
        router.learn(&descriptor(2, 2, "b", Some("e")));
        assert_eq!(
            router.shard(&Key::copy_from(b"c")).unwrap().leader(),
            Some(NodeId::new(7)),
            "the hint survives"
        );
        router.forget(&shard);
        assert_eq!(group("c"), None);
    }

    #[test]
    fn the_root_follows_its_group() {
        let router = Router::new(&[NodeId::new(2), NodeId::new(1)]);
        assert_eq!(router.root().voters().collect::<Vec<_>>(), [NodeId::new(1), NodeId::new(2)]);
        router.learn(&descriptor(ROOT_GROUP.get(), 3, "", Some("m")));
        assert_eq!(router.root().descriptor.generation, 3);
        router.learn(&descriptor(ROOT_GROUP.get(), 2, "", None));
        assert_eq!(router.root().descriptor.generation, 3);
        // Its members may all have changed since it was last heard of.
        router.set_nodes(vec![NodeId::new(9), NodeId::new(1)]);
        assert_eq!(router.candidates(&router.root()), [NodeId::new(1), NodeId::new(9)]);
    }
}
