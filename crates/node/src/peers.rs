//! What other nodes send: replication, calls and answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_paxos::Message;
use meridian_rpc::peer::{PeerHandler, PeerMessage, SendError, SnapshotPart};
use meridian_rpc::{Call, CallError};
use meridian_shard::{ClosedTimestamp, Input, Request, Response, ShardError};
use meridian_types::{Ballot, GroupId, NodeId, Timestamp};
use tokio::sync::oneshot;

use crate::backlog::lighten;
use crate::cell::{Cell, Waiter};
use crate::driver::Begun;
use crate::inner::{Inner, Outgoing, Then};

impl Inner {
    /// A call to a replica on this node: a step on the caller's thread.
    pub(crate) fn call_local(self: &Arc<Self>, group: GroupId, request: Request) -> Call {
        self.counters.local_calls.add(1);
        let Some(cell) = self.cell(group) else {
            return Call::Ready(Some(Err(ShardError::UnknownGroup { group }.into())));
        };
        let mut receiver = None;
        let begun = self.request(&cell, request, self.node, || {
            let (sender, answer) = oneshot::channel();
            receiver = Some(answer);
            Waiter::Local(sender)
        });
        match begun {
            Begun::Ready(answer) => Call::Ready(Some(answer.map_err(Into::into))),
            Begun::Waiting(_) => {
                Call::Pending { node: self.node, answer: receiver.expect("a waiter was asked for") }
            }
        }
    }

    /// A call to a replica on another node.
    pub(crate) fn call_remote(&self, node: NodeId, group: GroupId, request: Request) -> Call {
        self.counters.remote_calls.add(1);
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        // Before the send: the answer may come before it returns.
        self.outgoing.lock().insert(id, Outgoing { node, then: Then::Tell(sender) });
        let error = match self.transport.send(node, PeerMessage::Call { id, group, request }) {
            Ok(()) => return Call::Pending { node, answer },
            Err(SendError::Full) => ShardError::Overloaded.into(),
            Err(SendError::Disconnected) => CallError::Unreachable { node },
        };
        self.outgoing.lock().remove(&id);
        Call::Ready(Some(Err(error)))
    }

    /// Asks the leader to close a timestamp that a reader here waits for. No answer is no harm: the replica asks again.
    pub(crate) fn ask_to_close(&self, leader: NodeId, group: GroupId, at: Timestamp) {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        self.outgoing.lock().insert(id, Outgoing { node: leader, then: Then::Close(group) });
        let message = PeerMessage::Call { id, group, request: Request::CloseTimestamp { at } };
        if self.transport.send(leader, message).is_err() {
            self.outgoing.lock().remove(&id);
        }
    }

    fn close_here(self: &Arc<Self>, group: GroupId, answer: Result<Response, ShardError>) {
        if let Ok(Response::Closed { closed, through }) = answer
            && let Some(cell) = self.cell(group)
        {
            let closed = ClosedTimestamp { ballot: Ballot::ZERO, closed, through };
            self.step(&cell, Input::Closed(closed));
        }
    }

    /// A call that came from another node.
    fn serve_call(self: &Arc<Self>, peer: NodeId, call: u64, group: GroupId, request: Request) {
        let Some(cell) = self.cell(group) else {
            let result = Err(ShardError::UnknownGroup { group });
            return self.send(peer, PeerMessage::Answer { id: call, result });
        };
        // Noted before it can be answered by another thread.
        let begun = self.request(&cell, request, peer, || Waiter::Remote { peer, call });
        match begun {
            Begun::Ready(result) => self.send(peer, PeerMessage::Answer { id: call, result }),
            Begun::Waiting(id) => {
                self.remote_calls.lock().insert((peer, call), (group, id));
                // It may have been answered meanwhile; then nobody else removes the note.
                if !cell.core.lock().waiters.contains_key(&id) {
                    self.remote_calls.lock().remove(&(peer, call));
                }
            }
        }
    }

    fn cancel(self: &Arc<Self>, peer: NodeId, call: u64) {
        let noted = self.remote_calls.lock().remove(&(peer, call));
        let Some((group, id)) = noted else { return };
        let Some(cell) = self.cell(group) else { return };
        let waiter = cell.core.lock().waiters.remove(&id);
        if waiter.is_some() {
            self.step(&cell, Input::Cancel(id));
        }
    }

    fn receive_one(self: &Arc<Self>, from: NodeId, message: PeerMessage, last: &mut Option<Arc<Cell>>) {
        match message {
            PeerMessage::Paxos(mut envelope) => {
                if envelope.to != self.node || envelope.from != from {
                    tracing::warn!(from = from.get(), to = envelope.to.get(), "misdirected message");
                    return;
                }
                let is_heavy = matches!(
                    &envelope.message,
                    Message::Accept { entries, .. } | Message::Learn { entries, .. } if !entries.is_empty()
                );
                if is_heavy && self.backlog.is_full() {
                    self.counters.accepts_lightened.add(1);
                    if !lighten(&mut envelope) {
                        return;
                    }
                }
                if last.as_ref().is_none_or(|cell| cell.group != envelope.group) {
                    *last = self.cell(envelope.group);
                }
                match last {
                    Some(cell) if self.is_stranger(cell, from, &envelope.message) => {}
                    Some(cell) => self.step(cell, Input::Paxos { from, message: envelope.message }),
                    None => self.report_unknown(from, envelope.group),
                }
            }
            PeerMessage::Call { id, group, request } => self.serve_call(from, id, group, request),
            PeerMessage::Answer { id, result } => {
                let waiting = self.outgoing.lock().remove(&id);
                match waiting.map(|w| w.then) {
                    // Whoever asked may be gone.
                    Some(Then::Tell(sender)) => drop(sender.send(result.map_err(Into::into))),
                    Some(Then::Close(group)) => self.close_here(group, result),
                    None => {}
                }
            }
            PeerMessage::Cancel { id } => self.cancel(from, id),
            PeerMessage::Closed(groups) => {
                for group in groups {
                    if let Some(cell) = self.cell(group.group) {
                        self.step(&cell, Input::Closed(group.closed));
                    }
                }
            }
            PeerMessage::Beat(beat) => self.on_beat(from, &beat),
            PeerMessage::BeatAnswer(answer) => self.on_beat_answer(from, &answer),
            PeerMessage::NotMember { group, generation } => self.on_not_member(group, generation),
            PeerMessage::UnknownGroup { group } => self.on_unknown_group(from, group),
            PeerMessage::SnapshotOffer { id, descriptor, applied, beside } => {
                self.on_snapshot_offer(from, id, SnapshotPart { descriptor, applied }, beside);
            }
            PeerMessage::SnapshotChunk { id, group, sequence, rows, last } => {
                self.on_snapshot_chunk(from, id, group, sequence, &rows, last);
            }
            PeerMessage::SnapshotReply { id, verdict } => self.on_snapshot_reply(from, id, verdict),
        }
    }
}

/// The transport's way into a node.
pub(crate) struct Handler(pub(crate) Arc<Inner>);

impl PeerHandler for Handler {
    fn receive(&self, from: NodeId, messages: Vec<PeerMessage>) {
        if self.0.is_stopped() {
            return;
        }
        self.0.counters.frames_received.add(1);
        let mut last = None;
        for message in messages {
            self.0.receive_one(from, message, &mut last);
        }
    }

    fn disconnected(&self, peer: NodeId) {
        // Dropping the senders tells the callers.
        let lost: Vec<Outgoing> = {
            let mut outgoing = self.0.outgoing.lock();
            let ids: Vec<u64> = outgoing.iter().filter(|(_, o)| o.node == peer).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| outgoing.remove(id)).collect()
        };
        drop(lost);
        let calls: Vec<u64> = {
            let remote = self.0.remote_calls.lock();
            remote.keys().filter(|(node, _)| *node == peer).map(|(_, call)| *call).collect()
        };
        for call in calls {
            self.0.cancel(peer, call);
        }
        self.0.snapshots.peer_lost(peer);
        if !self.0.is_stopped() {
            self.0.beats_lost(peer);
        }
    }
}
