//! Two-phase commit, driven by the gateway (DESIGN section 5, Spanner section 4.2.1).
//!
//! ```text
//!   (Stage*) Prepare --every participant at once--> votes --> window
//!        | any failure                                |  empty
//!        v                                            v
//!     Resolve(Aborted), Rollback  <-------------------+
//!                                                     |
//!     Decide(window) at the coordinator --------------+--> committed at s: the client is answered here
//!        | no answer                                                     |
//!        v                                                               v
//!     QueryOutcome until known, or Ambiguous                Resolve(s) to all, then Forget
//! ```
//! Invariants: nothing is decided before every vote is in; an abort is told only while no `Decide` can still succeed
//! (none was sent, or it was refused for certain, or the coordinator has an abort on record); after an ambiguous end
//! nobody is told anything, because the shards' recovery knows and the gateway does not.

use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use meridian_kv_api::{KvError, RetryReason};
use meridian_shard::{Outcome, Request, Response, Vote};
use meridian_types::{Key, Timestamp, TxnId};

use crate::call::{Failure, Resend, Tries, unexpected};
use crate::commit::{Bounds, Part};
use crate::gateway::Core;
use crate::limits::BACKGROUND_WITHIN;
use crate::patience::Patience;

/// A transaction on its way through two phases.
pub(crate) struct TwoPhase {
    core: Arc<Core>,
    id: TxnId,
    coordinator: Part,
    /// A written key of the coordinator's shard: where the outcome is found.
    outcome_key: Key,
    others: Vec<Part>,
    bounds: Bounds,
    patience: Patience,
}

impl TwoPhase {
    /// The coordinator is a written shard: one that this node leads, since that saves a round trip, else the one with
    /// the most bytes, which then travel only once.
    pub(crate) fn new(
        core: Arc<Core>,
        id: TxnId,
        mut parts: Vec<Part>,
        bounds: Bounds,
        patience: Patience,
    ) -> Self {
        let rank = |part: &Part| (part.key.is_some(), part.shard.leader() == Some(core.node), part.bytes);
        let best = (0..parts.len()).rev().max_by_key(|i| rank(&parts[*i])).expect("a transaction has parts");
        let coordinator = parts.remove(best);
        let outcome_key = coordinator.key.clone().expect("a transaction that wrote has a written part");
        TwoPhase { core, id, coordinator, outcome_key, others: parts, bounds, patience }
    }

    /// Runs to the decision. What comes after it runs in the background.
    pub(crate) async fn run(mut self) -> Result<Timestamp, KvError> {
        let decided = match self.prepare().await {
            Ok(window) => self.decide(window).await,
            Err(failure) => Err(failure),
        };
        match decided {
            Ok(commit_ts) => {
                self.tell(Outcome::Committed(commit_ts));
                Ok(commit_ts)
            }
            Err(failure) => {
                let error = KvError::from(failure);
                if error != KvError::Ambiguous {
                    self.tell(Outcome::Aborted);
                }
                Err(error)
            }
        }
    }

    /// First phase. The coordinator stages its writes meanwhile.
    async fn prepare(&mut self) -> Result<Vote, Failure> {
        let (core, id, coordinator) = (&self.core, self.id, &self.outcome_key);
        let Bounds { min: prepare_ts, max: max_ts } = self.bounds;
        let patience = &self.patience;
        let votes = try_join_all(self.others.iter_mut().map(|part| async move {
            core.stage(id, part, patience).await?;
            let make = || Request::Prepare {
                txn: part.txn(id),
                writes: part.writes.clone(),
                staged_chunks: part.staged,
                coordinator: coordinator.clone(),
                max_ts,
            };
            match core.ask(&part.shard, &mut Tries::with(patience), Resend::Always, &make).await? {
                Response::Voted(vote) => Ok(vote),
                other => Err(Failure::GaveUp(unexpected("Prepare", &other))),
            }
        }));
        let (votes, ()) = futures::try_join!(votes, core.stage(id, &mut self.coordinator, patience))?;
        let everything = Vote { prepare_ts, max_ts };
        let window = votes.into_iter().fold(everything, |all, vote| Vote {
            prepare_ts: all.prepare_ts.max(vote.prepare_ts),
            max_ts: all.max_ts.min(vote.max_ts),
        });
        if window.prepare_ts > window.max_ts {
            return Err(Failure::GaveUp(KvError::Retry { reason: RetryReason::NoTimestamp }));
        }
        Ok(window)
    }

    /// Second phase, up to the moment at which the transaction is committed.
    async fn decide(&self, window: Vote) -> Result<Timestamp, Failure> {
        let participants: Vec<Key> = self.others.iter().filter_map(|part| part.key.clone()).collect();
        let make = || Request::Decide {
            txn: self.coordinator.txn(self.id),
            writes: self.coordinator.writes.clone(),
            staged_chunks: self.coordinator.staged,
            window,
            participants: participants.clone(),
        };
        let mut tries = Tries::with(&self.patience);
        let answer = self.core.ask(&self.coordinator.shard, &mut tries, Resend::IfRefused, &make).await;
        let commit_ts = self.core.committed(self.id, &self.outcome_key, answer).await?;
        assert!(
            window.prepare_ts <= commit_ts && commit_ts <= window.max_ts,
            "the coordinator chose {commit_ts} outside of [{}, {}]",
            window.prepare_ts,
            window.max_ts
        );
        Ok(commit_ts)
    }

    /// Tells everybody how it ended, in the background.
    fn tell(self, outcome: Outcome) {
        let core = Arc::clone(&self.core);
        core.background(self.tell_all(outcome));
    }

    async fn tell_all(self, outcome: Outcome) {
        let (core, id) = (&self.core, self.id);
        let told = join_all(self.others.iter().map(|part| core.resolve(id, outcome, part))).await;
        match outcome {
            Outcome::Aborted => core.roll_back(id, [self.coordinator.touched()]),
            Outcome::Committed(_) => {
                // The record may go only when every one of those that need it has applied it (I-9).
                let everyone =
                    self.others.iter().zip(told).all(|(part, was_told)| was_told || part.key.is_none());
                if everyone {
                    let mut tries = Tries::within(BACKGROUND_WITHIN);
                    let make = || Request::Forget { id, key: self.outcome_key.clone() };
                    // A record that stays is found by its shard's recovery, which tries again.
                    let _ = core.ask_key(&self.outcome_key, &mut tries, Resend::Always, &make).await;
                }
            }
        }
    }
}

impl Core {
    /// Tells a participant. False where it could not be reached in time: its own recovery asks the coordinator.
    async fn resolve(&self, id: TxnId, outcome: Outcome, part: &Part) -> bool {
        let mut tries = Tries::within(BACKGROUND_WITHIN);
        let make = || Request::Resolve { id, outcome, key: part.key.clone() };
        match (self.ask(&part.shard, &mut tries, Resend::Always, &make).await, &part.key) {
            (Ok(_), _) => true,
            (Err(Failure::Moved), Some(key)) => {
                self.ask_key(key, &mut tries, Resend::Always, &make).await.is_ok()
            }
            (Err(_), _) => false,
        }
    }
}
