//! Work that a shard's leader needs done at other shards, for which it does not know the way.
//!
//! A prepared participant that hears nothing asks how its transaction ended, which decides it if nobody has; a
//! coordinator whose record was not forgotten tells the participants again. Both repeat themselves from the shards'
//! side until they succeed, so that an attempt here may simply give up.

use async_trait::async_trait;
use futures::future::join_all;
use meridian_shard::{Outcome, Recovery, Request, Response};
use meridian_types::{Key, TxnId};

use crate::call::{Resend, Tries};
use crate::gateway::{Core, Gateway};

/// Carries out the recovery work of the shards that a node leads.
#[async_trait]
pub trait Recoverer: Send + Sync {
    /// Does it, or gives up after some time.
    async fn recover(&self, work: Recovery);
}

#[async_trait]
impl Recoverer for Gateway {
    async fn recover(&self, work: Recovery) {
        match work {
            Recovery::AskOutcome { id, coordinator, here } => {
                self.core.ask_outcome(id, coordinator, here).await
            }
            Recovery::TellParticipants { id, outcome, participants, here } => {
                self.core.tell_participants(id, outcome, participants, here).await;
            }
        }
    }
}

impl Core {
    async fn ask_outcome(&self, id: TxnId, coordinator: Key, here: Key) {
        let make = || Request::QueryOutcome { id, key: coordinator.clone(), abort_unknown: true };
        let answer = self.ask_key(&coordinator, &mut Tries::new(), Resend::Always, &make).await;
        match answer {
            Ok(Response::Outcome(Some(outcome))) => {
                self.resolve_at(id, outcome, &here).await;
            }
            Ok(_) => {}
            Err(failure) => {
                tracing::warn!(txn = %id, ?failure, "the outcome of a prepared transaction is not known")
            }
        }
    }

    async fn tell_participants(&self, id: TxnId, outcome: Outcome, participants: Vec<Key>, here: Key) {
        let told = join_all(participants.iter().map(|key| self.resolve_at(id, outcome, key))).await;
        if told.into_iter().all(|was_told| was_told) {
            let make = || Request::Forget { id, key: here.clone() };
            if let Err(failure) = self.ask_key(&here, &mut Tries::new(), Resend::Always, &make).await {
                tracing::warn!(txn = %id, ?failure, "the record of a finished transaction could not be dropped");
            }
        }
    }

    async fn resolve_at(&self, id: TxnId, outcome: Outcome, key: &Key) -> bool {
        let make = || Request::Resolve { id, outcome, key: Some(key.clone()) };
        let told = self.ask_key(key, &mut Tries::new(), Resend::Always, &make).await;
        if let Err(failure) = &told {
            tracing::warn!(txn = %id, ?failure, "a participant could not be told of an outcome");
        }
        told.is_ok()
    }
}
