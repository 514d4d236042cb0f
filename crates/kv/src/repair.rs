//! The shard map when it lags behind the shards.
//!
//! A split is in the shard's log before it is in the map. Whoever asked for it writes the map next, and may die first.
//! Then the parent's record stands, the left half answers `WrongShard`, and only the nodes that hold the right half
//! know of it. So whoever finds a record older than what it knows asks the nodes that hold the parent what they hold,
//! and writes the records itself. Two that do it at once write the same: a record is replaced by greater generations
//! only.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use meridian_keys::SystemKey;
use meridian_kv_api::{Kv, KvError, KvWrite, Locking, ReadWriteOptions};
use meridian_shard::ShardDescriptor;
use meridian_types::{GroupId, Key};

use crate::call::Tries;
use crate::gateway::{Core, Gateway};
use crate::meta::{Wanted, decode_descriptor, encode_descriptor};

impl Gateway {
    /// Writes shards into the shard map, except where it has newer ones. Called after bootstrap, splits, and changes of
    /// replicas.
    pub async fn publish_descriptors(&self, descriptors: Vec<ShardDescriptor>) -> Result<(), KvError> {
        let keys: Vec<Key> =
            descriptors.iter().map(|d| SystemKey::Meta { end: d.span.end.clone() }.encode()).collect();
        self.update(keys.clone(), |stored| {
            let mut writes = Vec::new();
            for ((descriptor, key), stored) in descriptors.iter().zip(&keys).zip(stored) {
                let known = stored.as_deref().map(decode_descriptor).transpose()?;
                if known.is_none_or(|known| known.generation < descriptor.generation) {
                    writes.push(KvWrite { key: key.clone(), value: Some(encode_descriptor(descriptor)) });
                }
            }
            Ok(writes)
        })
        .await?;
        for descriptor in &descriptors {
            self.core.router.learn(descriptor);
        }
        Ok(())
    }

    /// Reads keys and writes what `change` makes of them, in one transaction that is tried until it succeeds. An
    /// ambiguous end is tried again as well: `change` has to bear being done twice.
    ///
    /// # Errors
    /// What `change` says; [`KvError::Unavailable`] where the shard does not answer in time.
    pub async fn update(
        &self,
        keys: Vec<Key>,
        change: impl Fn(Vec<Option<Bytes>>) -> Result<Vec<KvWrite>, KvError>,
    ) -> Result<(), KvError> {
        let mut tries = Tries::new();
        let mut retry_of = None;
        loop {
            let txn = self.begin(ReadWriteOptions { retry_of });
            retry_of = txn.id();
            let attempt = async {
                let stored = txn.multi_get(keys.clone(), Locking::EXCLUSIVE).await?;
                txn.write(change(stored)?).await?;
                txn.commit().await
            };
            match attempt.await {
                Ok(_) => return Ok(()),
                Err(KvError::Retry { .. } | KvError::Ambiguous) => {
                    tries.pause(&self.core, "a record of the system keyspace could not be changed").await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Core {
    /// Asks the nodes that hold a shard's replicas what they hold. True when the wanted shard was among it.
    pub(crate) async fn repair(&self, wanted: Wanted<'_>, stale: &ShardDescriptor) -> bool {
        let Some(admin) = self.admin.get() else { return false };
        let held = join_all(stale.replicas.iter().map(|(node, _)| admin.replicas(*node))).await;
        let mut newest: BTreeMap<GroupId, ShardDescriptor> = BTreeMap::new();
        for status in held.into_iter().flatten().flatten() {
            let descriptor = status.descriptor;
            let is_news = descriptor.span.overlaps(&stale.span)
                && newest.get(&descriptor.group).is_none_or(|known| known.generation < descriptor.generation);
            if is_news {
                newest.insert(descriptor.group, descriptor);
            }
        }
        let is_found = newest.values().any(|d| wanted.is_held_by(&d.span) && d.generation > stale.generation);
        for descriptor in newest.values() {
            self.router.learn(descriptor);
        }
        if is_found && let Some(core) = self.me.upgrade() {
            let descriptors = newest.into_values().filter(|d| d.generation > stale.generation).collect();
            self.background(async move {
                if let Err(error) = (Gateway { core }).publish_descriptors(descriptors).await {
                    tracing::warn!(%error, "the shard map could not be repaired; the next lookup tries again");
                }
            });
        }
        is_found
    }
}
