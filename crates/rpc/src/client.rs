//! How a gateway reaches the shards, on this node or another.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use meridian_shard::{Request, Response, ShardError};
use meridian_types::{GroupId, NodeId};
use tokio::sync::oneshot;

/// Why a call has no answer of the shard.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The shard refused.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The node can't be reached, or the connection broke before the answer came. Whether the request was carried out
    /// is not known.
    #[error("node {node} is unreachable")]
    Unreachable {
        /// Which.
        node: NodeId,
    },
}

/// A call under way. A call to a shard on the same node that needs no waiting is `Ready` at once, without a channel,
/// an allocation or a change of thread. Dropping a pending call cancels the wait, not the request.
#[derive(Debug)]
pub enum Call {
    /// Answered already; `None` once taken.
    Ready(Option<Result<Response, CallError>>),
    /// The answer will come here. A closed channel means [`CallError::Unreachable`].
    Pending {
        /// Whom we asked.
        node: NodeId,
        /// Where the answer comes.
        answer: oneshot::Receiver<Result<Response, CallError>>,
    },
}

impl Future for Call {
    type Output = Result<Response, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Call::Ready(answer) => Poll::Ready(answer.take().expect("a finished call is not polled again")),
            Call::Pending { node, answer } => {
                Pin::new(answer).poll(cx).map(|r| r.unwrap_or(Err(CallError::Unreachable { node: *node })))
            }
        }
    }
}

/// Reaches shards by node and group.
pub trait ShardClient: Send + Sync {
    /// The node that this client lives on.
    fn local_node(&self) -> NodeId;

    /// Sends `request` to the replica of `group` on `node`.
    fn call(&self, node: NodeId, group: GroupId, request: Request) -> Call;

    /// True when `node` was heard from lately; a hint for the choice of a replica.
    fn is_live(&self, node: NodeId) -> bool;
}
