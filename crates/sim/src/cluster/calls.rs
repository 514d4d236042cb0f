//! What nodes ask each other: recovery across shards, closed timestamps, what an operator wants.

use meridian_shard::{ClosedTimestamp, Input, Recovery, Request, Response, ShardError};
use meridian_types::{Ballot, GroupId, Key, NodeId, TxnId};

use super::client::Route;
use super::delivery::Address;
use super::world::Cluster;

/// What a node itself waits for.
#[derive(Clone, Debug)]
pub(super) enum NodeCall {
    Ask { txn: TxnId, here: Key },
    Tell { txn: TxnId, here: Key },
    Close { group: GroupId },
    Ignore,
}

impl Cluster {
    pub(super) fn recover(&mut self, id: NodeId, recovery: Recovery) {
        match recovery {
            Recovery::AskOutcome { id: txn, coordinator, here } => {
                let group = self.group_of(&coordinator);
                let request = Request::QueryOutcome { id: txn, key: coordinator, abort_unknown: true };
                self.node_call(id, group, request, NodeCall::Ask { txn, here });
            }
            Recovery::TellParticipants { id: txn, outcome, participants, here } => {
                self.tells.remove(&(id, txn));
                for key in participants {
                    let group = self.group_of(&key);
                    let what = NodeCall::Tell { txn, here: here.clone() };
                    let request = Request::Resolve { id: txn, outcome, key: Some(key) };
                    let call = self.node_call(id, group, request, what);
                    self.tells.entry((id, txn)).or_default().insert(call);
                }
            }
        }
    }

    pub(super) fn node_call(
        &mut self,
        from: NodeId,
        group: GroupId,
        request: Request,
        what: NodeCall,
    ) -> u64 {
        let call = self.new_call();
        self.node_calls.insert(call, (from, what));
        self.send_request(Address::Node(from), call, group, Route::Leader, request);
        call
    }

    pub(super) fn node_answer(&mut self, call: u64, answer: Result<Response, ShardError>) {
        let Some((node, what)) = self.node_calls.remove(&call) else { return };
        match (what, answer) {
            (NodeCall::Ask { txn, here }, Ok(Response::Outcome(Some(outcome)))) => {
                self.stats.recoveries += 1;
                let group = self.group_of(&here);
                let request = Request::Resolve { id: txn, outcome, key: Some(here) };
                self.node_call(node, group, request, NodeCall::Ignore);
            }
            (NodeCall::Tell { txn, here }, Ok(Response::Done)) => {
                let Some(open) = self.tells.get_mut(&(node, txn)) else { return };
                open.remove(&call);
                if open.is_empty() {
                    self.tells.remove(&(node, txn));
                    let group = self.group_of(&here);
                    self.node_call(node, group, Request::Forget { id: txn, key: here }, NodeCall::Ignore);
                }
            }
            (NodeCall::Close { group }, Ok(Response::Closed { closed, through })) => {
                let closed = ClosedTimestamp { ballot: Ballot::ZERO, closed, through };
                self.step(node, group, Input::Closed(closed));
            }
            // Recovery tries again by its own timers.
            _ => {}
        }
    }
}
