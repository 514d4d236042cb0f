//! Read-only transactions: one timestamp, no locks, any replica that can serve it.
//!
//! ```text
//!   bound               one operation in one shard     otherwise
//!   Strong              ReadMode::Strong, the shard's   now().latest, chosen once
//!                       leader picks; kept for more pages
//!   At(t)               t                               t
//!   AtLeast(t)          max(t, now - closed lag)        the same
//! ```
//! Points at fresh timestamps go to the leader, who answers without waiting. Scans, and everything that is older than
//! what leaders close continuously, goes to the replica on this node if there is one, what is that old to the quickest
//! replica otherwise; where that cannot serve in time, to the leader. A replica that keeps a read waiting is not waited for
//! alone ([`crate::hedge`]).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_kv_api::{
    KvError, KvTxn, KvWrite, Locking, ReadBound, ReadOnlyOptions, Savepoint, ScanPage, ScanRequest,
};
use meridian_rpc::CallError;
use meridian_shard::{ReadMode, ReadOp, ReadResult, Request, Response};
use meridian_types::{Key, NodeId, Timestamp, TxnId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::call::{Failure, Resend, Tries, error_of, is_final, unexpected};
use crate::gateway::Core;
use crate::hedge::Kind;
use crate::limits::{CLOSED_LAG, FOLLOWER_TIMEOUT};
use crate::read::{self, Reader, value_of};
use crate::router::Shard;

/// A read-only transaction.
///
/// Invariant: the timestamp, once chosen, stays.
pub(crate) struct Snapshot {
    core: Arc<Core>,
    options: ReadOnlyOptions,
    chosen: Mutex<Option<Chosen>>,
    hedges: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Chosen {
    at: Timestamp,
    /// Every replica has closed it, or is about to: no need to bother a leader.
    is_closed: bool,
}

impl Snapshot {
    pub(crate) fn new(core: Arc<Core>, options: ReadOnlyOptions) -> Self {
        Snapshot { core, options, chosen: Mutex::new(None), hedges: AtomicBool::new(true) }
    }

    /// The timestamp; `None` where the shard's leader is to choose it.
    fn chosen(&self) -> Option<Chosen> {
        *self.chosen.lock()
    }

    fn choose(&self) -> Result<(), KvError> {
        let mut chosen = self.chosen.lock();
        if chosen.is_some() {
            return Ok(());
        }
        let now = self.core.now()?;
        let closed = now.earliest().saturating_sub(CLOSED_LAG);
        let at = match self.options.bound {
            ReadBound::Strong => now.latest(),
            ReadBound::At(at) => at,
            ReadBound::AtLeast(at) => at.max(closed),
        };
        if at > now.latest() {
            return Err(KvError::InFuture { at });
        }
        *chosen = Some(Chosen { at, is_closed: at <= closed });
        Ok(())
    }

    /// Takes in an answer, and the timestamp if the shard chose it.
    fn accept(&self, mode: ReadMode, response: Response) -> Result<Vec<ReadResult>, KvError> {
        match response {
            Response::Read { results, read_ts, .. } => {
                if mode == ReadMode::Strong {
                    let chosen = Chosen { at: read_ts, is_closed: false };
                    self.chosen.lock().get_or_insert(chosen);
                }
                Ok(results)
            }
            other => Err(unexpected("a snapshot read", &other)),
        }
    }

    fn may_be_strong(&self) -> bool {
        self.options.single_operation && self.options.bound == ReadBound::Strong
    }

    /// A replica to ask before the leader is.
    fn follower(&self, shard: &Shard, chosen: Option<Chosen>, kind: Kind) -> Option<NodeId> {
        let local = self.core.node;
        let chosen = chosen.filter(|chosen| chosen.is_closed || kind == Kind::Scan)?;
        if shard.leader() == Some(local) {
            return None;
        }
        let usual = if shard.has_data_on(local) { Some(local) } else { shard.leader() };
        if !chosen.is_closed || !self.hedges.load(Ordering::Relaxed) {
            return usual.filter(|node| *node == local);
        }
        let usual = usual?;
        let others = self.live_replicas(shard).filter(|node| *node != usual);
        let nearest = self.core.hedging.nearest(kind, usual, others, Instant::now());
        (Some(nearest) != shard.leader()).then_some(nearest)
    }

    /// Nodes with a replica of the shard that has data, as far as they are heard from.
    fn live_replicas<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = NodeId> + 'a {
        shard.nodes_with_data().filter(|node| *node == self.core.node || self.core.client.is_live(*node))
    }

    /// Who else can answer a read at a timestamp that `first` was asked for: the leader, and what is closed everybody.
    fn others<'a>(
        &'a self,
        shard: &'a Shard,
        chosen: Chosen,
        first: NodeId,
    ) -> impl Iterator<Item = NodeId> + 'a {
        self.live_replicas(shard)
            .filter(move |node| *node != first && (chosen.is_closed || shard.leader() == Some(*node)))
    }

    /// Awaits the answer of `first`, and asks a second replica where that takes long.
    async fn hedged(
        &self,
        shard: &Shard,
        first: NodeId,
        kind: Kind,
        make: &(dyn Fn() -> Request + Sync),
        answer: impl Future<Output = Result<Response, Failure>>,
    ) -> Result<Response, Failure> {
        let mut answer = pin!(answer);
        let began = Instant::now();
        if let Poll::Ready(answer) = futures::poll!(&mut answer) {
            return answer;
        }
        let hedging = &self.core.hedging;
        let chosen = self.chosen().filter(|_| self.hedges.load(Ordering::Relaxed));
        let hedge = chosen.and_then(|c| hedging.plan(kind, first, self.others(shard, c, first), began));
        let done = |node, asked: Instant| hedging.note(kind, node, asked.elapsed(), Instant::now());
        if let Some(hedge) = hedge {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    done(first, began);
                    return answer;
                }
                () = tokio::time::sleep(hedge.after) => {}
            }
            if hedging.take() {
                let asked = Instant::now();
                let mut second = pin!(self.core.call_patiently(hedge.node, shard.group(), make()));
                tokio::select! {
                    biased;
                    answer = &mut answer => {
                        done(first, began);
                        done(hedge.node, asked);
                        return answer;
                    }
                    answer = &mut second => {
                        // What it cannot answer, the first one may.
                        if let Ok(response) = answer {
                            done(first, began);
                            done(hedge.node, asked);
                            hedging.note_won();
                            return Ok(response);
                        }
                    }
                }
            }
        }
        let answer = answer.await;
        done(first, began);
        answer
    }

    /// Asks a follower once. `None` where the leader has to be asked after all.
    async fn ask_follower(
        &self,
        node: NodeId,
        shard: &Shard,
        request: Request,
    ) -> Option<Result<Response, Failure>> {
        let call = self.core.call_patiently(node, shard.group(), request);
        match tokio::time::timeout(FOLLOWER_TIMEOUT, call).await {
            Ok(Ok(response)) => Some(Ok(response)),
            Ok(Err(CallError::Shard(error))) if is_final(&error) => Some(Err(Failure::Refused(error))),
            _ => None,
        }
    }

    /// Reads one key where everything is cached: see `Txn::get_quickly`.
    async fn get_quickly(&self, key: &Key) -> Option<Result<Option<Bytes>, KvError>> {
        let shard = self.core.router.shard(key)?;
        let mut chosen = self.chosen();
        if chosen.is_none() && !self.may_be_strong() {
            if let Err(error) = self.choose() {
                return Some(Err(error));
            }
            chosen = self.chosen();
        }
        let node = shard.leader()?;
        // What others can answer, too, may be hedged.
        if node != self.core.node && chosen.is_some_and(|chosen| chosen.is_closed) {
            return None;
        }
        let mode = chosen.map_or(ReadMode::Strong, |chosen| ReadMode::At(chosen.at));
        let request = Request::Read { mode, ops: vec![ReadOp::Get(key.clone())] };
        match self.core.call_patiently(node, shard.group(), request).await {
            Ok(response) => Some(self.accept(mode, response).and_then(|mut results| match results.pop() {
                Some(result) if results.is_empty() => value_of(result),
                other => Err(unexpected("Get", &other)),
            })),
            Err(CallError::Shard(error)) if is_final(&error) => Some(Err(error_of(error))),
            Err(_) => None,
        }
    }
}

impl Reader for Snapshot {
    fn core(&self) -> &Core {
        &self.core
    }

    fn before_round(&self, is_one_shard: bool) -> Result<(), KvError> {
        if is_one_shard && self.may_be_strong() { Ok(()) } else { self.choose() }
    }

    async fn read_shard(
        &self,
        shard: &Arc<Shard>,
        ops: Vec<ReadOp>,
        is_point: bool,
        tries: &mut Tries,
    ) -> Result<Vec<ReadResult>, Failure> {
        let chosen = self.chosen();
        let mode = chosen.map_or(ReadMode::Strong, |chosen| ReadMode::At(chosen.at));
        let kind = if is_point { Kind::Points } else { Kind::Scan };
        let make = || Request::Read { mode, ops: ops.clone() };
        let follower = self.follower(shard, chosen, kind);
        let first = follower.unwrap_or_else(|| self.core.leader_or_guess(shard));
        let answer = async {
            if let Some(node) = follower
                && let Some(answer) = self.ask_follower(node, shard, make()).await
            {
                return answer;
            }
            self.core.ask(shard, tries, Resend::Always, &make).await
        };
        let answer = self.hedged(shard, first, kind, &make, answer).await;
        self.accept(mode, answer?).map_err(Failure::GaveUp)
    }
}

#[async_trait]
impl KvTxn for Snapshot {
    fn id(&self) -> Option<TxnId> {
        None
    }

    fn read_timestamp(&self) -> Option<Timestamp> {
        self.chosen().map(|chosen| chosen.at)
    }

    async fn get(&self, key: Key, _locking: Locking) -> Result<Option<Bytes>, KvError> {
        if let Some(result) = self.get_quickly(&key).await {
            return result;
        }
        let keys = [key];
        let values = Box::pin(read::points(self, &keys)).await?;
        Ok(values.into_iter().next().expect("one key has one value"))
    }

    async fn multi_get(&self, keys: Vec<Key>, _locking: Locking) -> Result<Vec<Option<Bytes>>, KvError> {
        read::points(self, &keys).await
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, KvError> {
        read::page(self, &request).await
    }

    async fn write(&self, _writes: Vec<KvWrite>) -> Result<(), KvError> {
        Err(KvError::ReadOnly)
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint(0)
    }

    async fn rollback_to(&self, _savepoint: Savepoint) -> Result<(), KvError> {
        Ok(())
    }

    fn set_hedging(&self, on: bool) {
        self.hedges.store(on, Ordering::Relaxed);
    }

    fn limit_commit_timestamp(&self, _max: Timestamp) {}

    fn raise_commit_timestamp(&self, _min: Timestamp) {}

    async fn commit(&self) -> Result<Option<Timestamp>, KvError> {
        Ok(None)
    }

    async fn rollback(&self) {}
}
