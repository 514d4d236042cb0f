//! Real-time order as one chain.
//!
//! A barrier stands wherever ends are followed by a beginning. What has ended leads to the barrier behind it, each
//! barrier to the next one, and the last barrier before a beginning to what begins. So one transaction reaches another
//! exactly when it ended before the other began, with at most three edges for each.

use crate::anomaly::Dependency;
use crate::graph::{GraphBuilder, Node};
use crate::history::{History, TxnIndex};
use crate::index::Index;

#[derive(Clone, Copy)]
enum Happening {
    Nothing,
    Begin(TxnIndex),
    End(TxnIndex),
}

pub(crate) fn chain(history: &History, index: &Index, graph: &mut GraphBuilder) {
    let mut happenings = vec![Happening::Nothing; history.events as usize];
    for (txn, transaction) in history.transactions().filter(|(txn, _)| index.happened[txn.at()]) {
        happenings[transaction.invoked as usize] = Happening::Begin(txn);
        if let Some(completed) = transaction.completed {
            happenings[completed as usize] = Happening::End(txn);
        }
    }
    let mut barrier: Option<Node> = None;
    let mut ended: Vec<TxnIndex> = Vec::new();
    for happening in happenings {
        match happening {
            Happening::Nothing => {}
            Happening::End(txn) => ended.push(txn),
            Happening::Begin(txn) => {
                if !ended.is_empty() {
                    let next = graph.helper();
                    if let Some(barrier) = barrier {
                        graph.pass(barrier, next);
                    }
                    for txn in ended.drain(..) {
                        graph.depend(txn, next, Dependency::RealTime);
                    }
                    barrier = Some(next);
                }
                if let Some(barrier) = barrier {
                    graph.pass(barrier, Node::from(txn));
                }
            }
        }
    }
}
