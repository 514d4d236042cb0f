//! Many readers before many writers, with few edges.

use crate::anomaly::Dependency;
use crate::graph::{GraphBuilder, Node};
use crate::history::TxnIndex;

/// Puts each source before each target, but none before itself.
///
/// Few pairs become edges. For many there are two chains of helpers over the targets, one for all up to a place and one
/// for all from a place on: a source that is a target as well enters them beside its own place. `targets` is sorted.
pub(crate) fn fan(graph: &mut GraphBuilder, sources: &[(TxnIndex, Dependency)], targets: &[TxnIndex]) {
    assert!(targets.is_sorted(), "targets are found by binary search");
    if sources.len() * targets.len() <= 4 * (sources.len() + targets.len()) {
        for (source, dependency) in sources {
            for target in targets {
                graph.depend(*source, Node::from(*target), *dependency);
            }
        }
        return;
    }
    let up_to = chain(graph, targets.iter());
    let from: Vec<Node> = {
        let mut backwards = chain(graph, targets.iter().rev());
        backwards.reverse();
        backwards
    };
    for (source, dependency) in sources {
        match targets.binary_search(source) {
            Err(_) => graph.depend(*source, from[0], *dependency),
            Ok(at) => {
                if at > 0 {
                    graph.depend(*source, up_to[at - 1], *dependency);
                }
                if let Some(after) = from.get(at + 1) {
                    graph.depend(*source, *after, *dependency);
                }
            }
        }
    }
}

/// Helpers each of which leads to one target and to the helper before it.
fn chain<'a>(graph: &mut GraphBuilder, targets: impl Iterator<Item = &'a TxnIndex>) -> Vec<Node> {
    let mut helpers: Vec<Node> = Vec::new();
    for target in targets {
        let helper = graph.helper();
        graph.pass(helper, Node::from(*target));
        if let Some(before) = helpers.last() {
            graph.pass(helper, *before);
        }
        helpers.push(helper);
    }
    helpers
}
