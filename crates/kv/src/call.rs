//! One request to one shard: find its leader, follow redirects, pause, give up.
//!
//! ```text
//!          +--------- NotLeader(hint), at most a few times --------+
//!          v                                                       |
//!   ask leader ----> answer                                        |
//!          |                                                       |
//!          +-- NotLeader(nobody), Unreachable, Unfit --> search ---+   one search per shard at a time
//!          +-- WrongShard, UnknownGroup everywhere --> Moved           the caller groups its keys again
//!          +-- Overloaded --> pause
//!          +-- anything else --> Refused
//! ```
//! Time without an answer of a shard that works on the request (waits for a lock, say) is not limited here; time spent
//! without finding anybody who works on it is.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_kv_api::{KvError, RetryReason};
use meridian_rpc::{Call, CallError};
use meridian_shard::{AbortReason, Outcome, Request, Response, ShardError};
use meridian_types::{GroupId, Key, NodeId};
use tokio::time::Instant;

use crate::gateway::Core;
use crate::limits;
use crate::patience::Patience;
use crate::router::Shard;

/// Why a shard did not answer what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The keys are not where the cache said. It was corrected; group the keys again.
    Moved,
    /// The request was sent and the connection broke: it may have been carried out.
    Unanswered,
    /// The shard's last word.
    Refused(ShardError),
    /// Nobody was found who would answer.
    GaveUp(KvError),
}

/// Whether a request may be sent again after a connection broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resend {
    /// Doing it twice is the same as doing it once.
    Always,
    /// Only when it was certainly not carried out.
    IfRefused,
}

impl From<Failure> for KvError {
    fn from(failure: Failure) -> KvError {
        match failure {
            Failure::Moved => KvError::Retry { reason: RetryReason::LocksLost },
            Failure::Unanswered => KvError::Ambiguous,
            Failure::Refused(error) => error_of(error),
            Failure::GaveUp(error) => error,
        }
    }
}

/// What a shard's refusal means above the seam.
pub(crate) fn error_of(error: ShardError) -> KvError {
    match error {
        ShardError::Aborted { reason } => KvError::Retry { reason: reason_of(reason) },
        ShardError::AlreadyDecided { outcome: Outcome::Aborted } => {
            KvError::Retry { reason: RetryReason::Recovered }
        }
        ShardError::WouldBlock => KvError::LockNotAvailable,
        ShardError::LockTimeout => KvError::LockTimeout,
        ShardError::BelowHorizon { at, horizon } => KvError::SnapshotTooOld { at, horizon },
        ShardError::InFuture { at } => KvError::InFuture { at },
        ShardError::OutcomeUnknown => KvError::Ambiguous,
        ShardError::Overloaded
        | ShardError::Unfit { .. }
        | ShardError::NotLeader { .. }
        | ShardError::UnknownGroup { .. }
        | ShardError::UnsoundChange
        | ShardError::WrongShard { .. } => KvError::Unavailable { detail: error.to_string() },
        ShardError::AlreadyDecided { outcome: Outcome::Committed(ts) } => {
            KvError::Internal { detail: format!("a transaction was used after it had committed at {ts}") }
        }
    }
}

/// True for a refusal that no other replica, and no later attempt at the same one, would take back.
pub(crate) fn is_final(error: &ShardError) -> bool {
    match error {
        ShardError::Aborted { .. }
        | ShardError::WouldBlock
        | ShardError::LockTimeout
        | ShardError::AlreadyDecided { .. }
        | ShardError::OutcomeUnknown
        | ShardError::BelowHorizon { .. }
        | ShardError::UnsoundChange
        | ShardError::InFuture { .. } => true,
        ShardError::NotLeader { .. }
        | ShardError::WrongShard { .. }
        | ShardError::UnknownGroup { .. }
        | ShardError::Overloaded
        | ShardError::Unfit { .. } => false,
    }
}

fn reason_of(reason: AbortReason) -> RetryReason {
    match reason {
        AbortReason::Wounded { .. } => RetryReason::Wounded,
        AbortReason::LocksLost => RetryReason::LocksLost,
        AbortReason::WouldDeadlock => RetryReason::WouldDeadlock,
        AbortReason::NoTimestamp => RetryReason::NoTimestamp,
        AbortReason::ByRecovery => RetryReason::Recovered,
    }
}

/// An answer of the wrong kind: a bug of the shard, which must not take the gateway down.
pub(crate) fn unexpected(request: &str, answer: &impl std::fmt::Debug) -> KvError {
    KvError::Internal { detail: format!("unexpected answer to {request}: {answer:?}") }
}

/// How long something has been tried in vain.
pub(crate) struct Tries {
    within: Duration,
    /// When the present row of failures began, and when its last one was.
    failing: Option<(Instant, Instant)>,
    count: u32,
    pub(crate) patience: Patience,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Tries::within(limits::GIVE_UP_AFTER)
    }

    pub(crate) fn within(within: Duration) -> Self {
        Tries { within, failing: None, count: 0, patience: Patience::default() }
    }

    pub(crate) fn with(patience: &Patience) -> Self {
        Tries { patience: patience.clone(), ..Tries::new() }
    }

    /// Waits a little, longer each time, or gives up.
    pub(crate) async fn pause(&mut self, core: &Core, detail: &'static str) -> Result<(), KvError> {
        let pause = limits::PAUSE_MIN.saturating_mul(1 << self.count.min(16)).min(limits::PAUSE_MAX);
        self.pause_for(core, pause, detail).await
    }

    /// Waits for somebody else's attempt at the same, no longer than this one would have been tried itself.
    pub(crate) async fn wait_for<T>(
        &mut self,
        other: impl Future<Output = T>,
        detail: &'static str,
    ) -> Result<T, KvError> {
        let now = Instant::now();
        let (began, _) = *self.failing.get_or_insert((now, now));
        let other = self.patience.unless_stopped(other);
        let done = tokio::time::timeout_at(began + self.within, other).await;
        done.unwrap_or_else(|_| Err(KvError::Unavailable { detail: detail.into() }))
    }

    async fn pause_for(&mut self, core: &Core, pause: Duration, detail: &'static str) -> Result<(), KvError> {
        let now = Instant::now();
        // A shard that worked on the request in between has not failed since then.
        let began = match self.failing {
            Some((began, last)) if now - last < self.within / 4 => began,
            _ => now,
        };
        self.failing = Some((began, now));
        self.count += 1;
        if now - began >= self.within {
            return Err(KvError::Unavailable { detail: detail.into() });
        }
        self.patience.unless_stopped(tokio::time::sleep(core.jitter(pause))).await
    }
}

impl Core {
    /// Asks a replica and waits for its answer. A node that is not heard from any more counts as unreachable. `None` when
    /// patience ended first: the request may have been carried out, or may still be.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        group: GroupId,
        request: Request,
        patience: &Patience,
    ) -> Option<Result<Response, CallError>> {
        let mut pending = match self.client.call(node, group, request) {
            Call::Ready(answer) => {
                return Some(answer.expect("a call that was just made is not taken yet"));
            }
            pending => pending,
        };
        let mut cancel_at = patience.locks.map(|(_, timeout)| Instant::now() + timeout);
        loop {
            let check_at = Instant::now() + limits::LIVENESS_CHECK;
            tokio::select! {
                biased;
                answer = &mut pending => return Some(answer),
                () = patience.stopped() => return None,
                () = tokio::time::sleep_until(cancel_at.map_or(check_at, |at| at.min(check_at))) => {}
            }
            if let Some((id, timeout)) = patience.locks
                && cancel_at.is_some_and(|at| at <= Instant::now())
            {
                // Not waited for: the request itself is answered. Again later, in case that it begins to wait only then.
                drop(self.client.call(node, group, Request::CancelWaits { id }));
                cancel_at = Some(Instant::now() + timeout);
            }
            if node != self.node && !self.client.is_live(node) {
                return Some(Err(CallError::Unreachable { node }));
            }
        }
    }

    /// As [`Core::call`], however long it takes.
    pub(crate) async fn call_patiently(
        &self,
        node: NodeId,
        group: GroupId,
        request: Request,
    ) -> Result<Response, CallError> {
        let answer = self.call(node, group, request, &Patience::default()).await;
        answer.expect("nothing ends a patient call but its answer")
    }

    /// Whom to ask first: the leader where it is known, else the replica on this node, else any voter.
    pub(crate) fn leader_or_guess(&self, shard: &Shard) -> NodeId {
        if let Some(leader) = shard.leader() {
            return leader;
        }
        let mut voters = shard.voters();
        let first = voters.next().unwrap_or(self.node);
        if first == self.node || voters.any(|node| node == self.node) { self.node } else { first }
    }

    /// Asks the leader of a shard, whoever that is by the time that it answers.
    pub(crate) async fn ask(
        &self,
        shard: &Shard,
        tries: &mut Tries,
        resend: Resend,
        make: &(dyn Fn() -> Request + Sync),
    ) -> Result<Response, Failure> {
        let mut redirects = 0;
        loop {
            tries.patience.check().map_err(Failure::GaveUp)?;
            let node = self.leader_or_guess(shard);
            let Some(answer) = self.call(node, shard.group(), make(), &tries.patience).await else {
                return Err(match resend {
                    Resend::IfRefused => Failure::Unanswered,
                    Resend::Always => Failure::GaveUp(KvError::Stopped),
                });
            };
            let error = match answer {
                Ok(response) => {
                    shard.set_leader(node);
                    return Ok(response);
                }
                Err(CallError::Unreachable { .. }) => {
                    shard.not_leader(node);
                    if resend == Resend::IfRefused {
                        return Err(Failure::Unanswered);
                    }
                    self.search(shard, tries).await?;
                    continue;
                }
                Err(CallError::Shard(error)) => error,
            };
            match error {
                ShardError::NotLeader { leader: Some(leader), .. }
                    if leader != node && redirects < limits::REDIRECTS_MAX =>
                {
                    redirects += 1;
                    shard.set_leader(leader);
                }
                ShardError::NotLeader { .. } | ShardError::UnknownGroup { .. } | ShardError::Unfit { .. } => {
                    shard.not_leader(node);
                    self.search(shard, tries).await?;
                    redirects = 0;
                }
                ShardError::WrongShard { descriptor } => {
                    self.router.learn_moved(shard, &descriptor);
                    return Err(Failure::Moved);
                }
                ShardError::Overloaded => {
                    let waited = tries.pause_for(self, limits::OVERLOAD_PAUSE, "a shard is overloaded").await;
                    waited.map_err(Failure::GaveUp)?;
                }
                ShardError::Aborted { .. }
                | ShardError::WouldBlock
                | ShardError::LockTimeout
                | ShardError::AlreadyDecided { .. }
                | ShardError::OutcomeUnknown
                | ShardError::BelowHorizon { .. }
                | ShardError::UnsoundChange
                | ShardError::InFuture { .. } => {
                    shard.set_leader(node);
                    return Err(Failure::Refused(error));
                }
            }
        }
    }

    /// Asks the leader of the shard that holds `key`, wherever it moves.
    pub(crate) async fn ask_key(
        &self,
        key: &Key,
        tries: &mut Tries,
        resend: Resend,
        make: &(dyn Fn() -> Request + Sync),
    ) -> Result<Response, Failure> {
        loop {
            let shard = self.route(key, tries).await.map_err(Failure::GaveUp)?.shard;
            match self.ask(&shard, tries, resend, make).await {
                Err(Failure::Moved) => {
                    tries.pause(self, "the shard of a key keeps moving").await.map_err(Failure::GaveUp)?;
                }
                answer => return answer,
            }
        }
    }

    /// Finds out who leads a shard by asking all that may at once, again and again until one says that it does.
    /// One search per shard runs at a time, so that thousands of transactions that wait for a new leader do not
    /// flood the nodes.
    async fn search(&self, shard: &Shard, tries: &mut Tries) -> Result<(), Failure> {
        let search = tries.wait_for(shard.search.lock(), "a shard has no leader").await;
        let _only_one = search.map_err(Failure::GaveUp)?;
        while shard.leader().is_none() {
            let candidates = self.router.candidates(shard).into_iter();
            let mut probes: FuturesUnordered<_> = candidates.map(|node| self.probe(node, shard)).collect();
            let mut unknown = 0;
            let asked = probes.len();
            while let Some((node, answer)) = probes.next().await {
                match answer {
                    Ok(()) => {
                        shard.set_leader(node);
                        return Ok(());
                    }
                    Err(CallError::Shard(ShardError::UnknownGroup { .. })) => unknown += 1,
                    Err(_) => {}
                }
            }
            if unknown == asked {
                self.router.forget(shard);
                tries
                    .pause(self, "no replica of a shard is where it should be")
                    .await
                    .map_err(Failure::GaveUp)?;
                return Err(Failure::Moved);
            }
            tries.pause(self, "a shard has no leader").await.map_err(Failure::GaveUp)?;
        }
        Ok(())
    }

    /// Asks a replica whether it leads. A heartbeat of nobody is answered by leaders only and costs nothing.
    async fn probe(&self, node: NodeId, shard: &Shard) -> (NodeId, Result<(), CallError>) {
        let call = self.call_patiently(node, shard.group(), Request::Heartbeat { ids: Vec::new() });
        let answer = tokio::time::timeout(limits::PROBE_TIMEOUT, call).await;
        (node, answer.unwrap_or(Err(CallError::Unreachable { node })).map(|_| ()))
    }
}
