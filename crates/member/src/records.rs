//! What a cluster keeps about itself: the shard map's first records, the first databases, its nodes; and its settings,
//! which every node reads again and again.

use std::sync::Arc;
use std::time::Duration;

use meridian_catalog::{CatalogError, CatalogStore};
use meridian_keys::SystemKey;
use meridian_kv::Gateway;
use meridian_kv::nodes::{Decommissioned, is_decommissioned, node_record};
use meridian_kv_api::{Kv, KvError, KvTxn, KvWrite, Locking, ReadWriteOptions};
use meridian_node::Horizons;
use meridian_rpc::admin::NodeAddress;
use meridian_session::{ClusterSettings, Roles};
use meridian_types::NodeId;
use tokio::time::Instant;

use crate::bootstrap::first_shards;

/// A member that can't reach the system shard for this long at its start gives up waiting quietly and says so.
const PATIENCE: Duration = Duration::from_secs(15);

/// Writes what a new cluster must know of itself, where it is not written yet: the first shards in the shard map (by those
/// that know on which nodes they were made), the first databases, this node's record. Every node does it at every start; it
/// is a few reads once it is done.
pub(crate) async fn ensure(
    gateway: &Gateway,
    first: Option<Vec<NodeId>>,
    me: &NodeAddress,
) -> Result<(), Decommissioned> {
    if let Some(first) = first {
        let shards = first_shards(&first);
        retry("write the shard map", || gateway.publish_descriptors(shards.clone())).await;
    }
    retry("create the first databases", || async {
        let txn = gateway.begin(ReadWriteOptions::default());
        let made = CatalogStore::bootstrap(&*txn).await;
        finish(&*txn, made.map(drop).map_err(kv_error)).await
    })
    .await;
    write_own(gateway, me).await
}

/// This node's record, as it is now. A node that is to be no more stays so.
async fn write_own(gateway: &Gateway, me: &NodeAddress) -> Result<(), Decommissioned> {
    let key = SystemKey::Node(me.node).encode();
    let record = node_record(me);
    let written = retry("write the node's record", || async {
        let txn = gateway.begin(ReadWriteOptions::default());
        let written = async {
            let found = txn.get(key.clone(), Locking::EXCLUSIVE).await?;
            if found.as_deref().is_some_and(is_decommissioned) {
                return Ok(Err(Decommissioned));
            }
            if found.as_ref() != Some(&record) {
                txn.write(vec![KvWrite { key: key.clone(), value: Some(record.clone()) }]).await?;
            }
            Ok(Ok(()))
        };
        let written = written.await;
        let outcome = written.clone().unwrap_or(Ok(()));
        finish(&*txn, written.map(drop)).await?;
        Ok(outcome)
    });
    written.await
}

async fn finish(txn: &dyn KvTxn, result: Result<(), KvError>) -> Result<(), KvError> {
    match result {
        Ok(()) => txn.commit().await.map(drop),
        Err(error) => {
            txn.rollback().await;
            Err(error)
        }
    }
}

fn kv_error(error: CatalogError) -> KvError {
    match error {
        CatalogError::Kv(error) => error,
        other => KvError::Internal { detail: other.to_string() },
    }
}

/// Tries until it succeeds: a starting cluster has no leader for a moment.
pub(crate) async fn retry<T, F: Future<Output = Result<T, KvError>>>(
    what: &str,
    mut step: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    let mut warned = false;
    loop {
        match step().await {
            Ok(done) => return done,
            Err(error) => {
                if !warned && start.elapsed() > PATIENCE {
                    warned = true;
                    tracing::warn!(%error, "still trying to {what}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Keeps the cluster's settings and the names of its roles fresh, and does what the settings say.
pub(crate) async fn heed_settings(
    (settings, roles): (Arc<ClusterSettings>, Arc<Roles>),
    gateway: Gateway,
    horizons: Arc<Horizons>,
) {
    loop {
        let (settings_read, roles_read) = tokio::join!(settings.refresh(&gateway), roles.refresh(&gateway));
        if let Err(error) = settings_read.and(roles_read) {
            // They stay as they were.
            tracing::debug!(%error, "cluster settings could not be read");
        }
        horizons.set_retention(settings.gc_ttl());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
