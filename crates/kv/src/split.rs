//! Splitting a shard at a key.
//!
//! ```text
//!   id for the new group (a transaction on its counter)
//!   Split at the shard's leader                          the truth changes here
//!   both halves into the shard map (a transaction)       a crash before this is made good by `repair`
//! ```

use meridian_keys::meta_span;
use meridian_kv_api::KvError;
use meridian_shard::{Request, Response, ShardError};
use meridian_types::{GroupId, Key};

use crate::call::{Failure, Resend, Tries, unexpected};
use crate::gateway::Gateway;

impl Gateway {
    /// Makes `key` the first key of a shard; no error where it is already. `new_group` is called once, if at all.
    pub(crate) async fn split_at(
        &self,
        key: Key,
        new_group: impl Future<Output = Result<GroupId, KvError>>,
    ) -> Result<(), KvError> {
        if meta_span().end.is_none_or(|end| key < end) {
            // Lookups start at the root shard, which must hold all of the map.
            return Err(KvError::Unavailable { detail: "the shard map itself can't be split".into() });
        }
        let mut tries = Tries::new();
        if self.core.route(&key, &mut tries).await?.shard.descriptor.span.start == key {
            return Ok(());
        }
        let new_group = new_group.await?;
        loop {
            let shard = self.core.route(&key, &mut tries).await?.shard;
            if shard.descriptor.span.start == key {
                return Ok(());
            }
            let make = || Request::Split { at: key.clone(), new_group };
            match self.core.ask(&shard, &mut tries, Resend::IfRefused, &make).await {
                Ok(Response::Split { left, right }) => {
                    self.core.router.learn(&left);
                    self.core.router.learn(&right);
                    return self.publish_descriptors(vec![left, right]).await;
                }
                Ok(other) => return Err(unexpected("Split", &other)),
                // Asking again is safe: once split, the shard does not hold the key any more and says so.
                Err(Failure::Unanswered | Failure::Moved | Failure::Refused(ShardError::OutcomeUnknown)) => {
                    tries.pause(&self.core, "a shard can't be split").await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}
