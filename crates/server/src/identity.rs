//! Who a node is, and whom it knows: what its folder remembers outside of any shard.
//!
//! The records are in the log engine's Node family, written synced: the format's version when the folder is made, cluster
//! and node id once the node is a member, the address book whenever it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_keys::local::{NODE_FORMAT, NODE_IDENTITY, NODE_INCARNATION, NODE_PEERS};
use meridian_node::{Horizons, Sweep};
use meridian_rpc::admin::NodeAddress;
use meridian_storage::{Durability, Engine, Family, StorageError, WriteBatch};
use meridian_storage_rocksdb::{GarbagePolicy, Options, RocksEngine, SharedCache, VersionFilter};
use meridian_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

use crate::ServerError;

/// The version of everything that is persisted. A folder with another one is refused.
const FORMAT: u64 = 1;

/// Bytes of uncompressed blocks that a node caches. Grows with nothing; a node on a small machine must fit.
const BLOCK_CACHE_BYTES: usize = 256 << 20;

/// A member of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// An opened data folder.
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) log: Arc<RocksEngine>,
    pub(crate) data: Arc<RocksEngine>,
    /// What compactions of `data` may drop.
    pub(crate) horizons: Arc<Horizons>,
    /// How often a process has started on this folder, this one included.
    pub(crate) incarnation: u64,
}

/// Garbage collection by compactions.
struct Collecting(Arc<Horizons>);

impl GarbagePolicy for Collecting {
    fn begin(&self) -> Box<dyn VersionFilter> {
        Box::new(Compaction(self.0.sweep()))
    }
}

struct Compaction(Sweep);

impl VersionFilter for Compaction {
    fn is_garbage(&mut self, version_key: &[u8]) -> bool {
        self.0.is_garbage(version_key)
    }
}

#[derive(Serialize, Deserialize)]
struct Peer {
    node: u32,
    address: String,
    sql_address: String,
    http_address: String,
    region: String,
    zone: String,
    version: String,
}

impl Folder {
    /// Opens the folder, making it where it does not exist, and counts the start.
    ///
    /// # Errors
    /// It is locked, not a folder, damaged, or of another format.
    pub(crate) fn open(path: &Path) -> Result<Folder, ServerError> {
        std::fs::create_dir_all(path)
            .map_err(|error| ServerError::Folder { path: path.to_path_buf(), error })?;
        let cache = SharedCache::new(BLOCK_CACHE_BYTES);
        let open = |name: &str, options: Options| {
            RocksEngine::open(&path.join(name), &options)
                .map(Arc::new)
                .map_err(|error| ServerError::Storage { path: path.to_path_buf(), error })
        };
        let log = open("log", Options::log(cache.clone()))?;
        let horizons = Arc::new(Horizons::default());
        let garbage: Arc<dyn GarbagePolicy> = Arc::new(Collecting(horizons.clone()));
        let data = open("data", Options { garbage: Some(garbage), ..Options::data(cache) })?;
        let mut folder = Folder { path: path.to_path_buf(), log, data, horizons, incarnation: 0 };
        match folder.read_u64(NODE_FORMAT)? {
            None => folder.write(NODE_FORMAT, FORMAT.to_be_bytes().to_vec())?,
            Some(FORMAT) => {}
            Some(found) => return Err(ServerError::Format { path: folder.path, found, known: FORMAT }),
        }
        folder.incarnation = folder.read_u64(NODE_INCARNATION)?.unwrap_or(0) + 1;
        folder.write(NODE_INCARNATION, folder.incarnation.to_be_bytes().to_vec())?;
        Ok(folder)
    }

    /// Who this node is, once it is a member.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, ServerError> {
        let Some(record) = self.read(NODE_IDENTITY)? else { return Ok(None) };
        let corrupt = || {
            let detail = "the node's identity is malformed".to_string();
            self.storage_error(StorageError::Corruption { detail })
        };
        let (cluster, node) = record.split_at_checked(16).ok_or_else(corrupt)?;
        let cluster = ClusterId::new(u128::from_be_bytes(cluster.try_into().map_err(|_| corrupt())?));
        let node = NodeId::new(u32::from_be_bytes(node.try_into().map_err(|_| corrupt())?));
        Ok(Some(Identity { cluster, node }))
    }

    /// Remembers who this node is. Never changes once written.
    ///
    /// # Panics
    /// When the folder has another identity: a node that changed its id would vote twice.
    pub(crate) fn set_identity(&self, identity: Identity) -> Result<(), ServerError> {
        if let Some(known) = self.identity()? {
            assert!(known == identity, "the identity of a data folder may not change");
            return Ok(());
        }
        let mut record = identity.cluster.get().to_be_bytes().to_vec();
        record.extend_from_slice(&identity.node.get().to_be_bytes());
        self.write(NODE_IDENTITY, record)
    }

    /// The address book as last known.
    pub(crate) fn peers(&self) -> Result<Vec<NodeAddress>, ServerError> {
        let Some(record) = self.read(NODE_PEERS)? else { return Ok(Vec::new()) };
        let peers: Vec<Peer> = serde_json::from_slice(&record)
            .map_err(|e| self.storage_error(StorageError::Corruption { detail: e.to_string() }))?;
        Ok(peers
            .into_iter()
            .map(|p| NodeAddress {
                node: NodeId::new(p.node),
                address: p.address,
                sql_address: p.sql_address,
                http_address: p.http_address,
                region: p.region,
                zone: p.zone,
                version: p.version,
            })
            .collect())
    }

    /// Remembers the address book.
    pub(crate) fn set_peers(&self, peers: &[NodeAddress]) -> Result<(), ServerError> {
        let peers: Vec<Peer> = peers
            .iter()
            .map(|p| Peer {
                node: p.node.get(),
                address: p.address.clone(),
                sql_address: p.sql_address.clone(),
                http_address: p.http_address.clone(),
                region: p.region.clone(),
                zone: p.zone.clone(),
                version: p.version.clone(),
            })
            .collect();
        self.write(NODE_PEERS, serde_json::to_vec(&peers).expect("plain data is JSON"))
    }

    fn read(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, ServerError> {
        use meridian_storage::Reader;
        self.log.get(Family::Node, key).map_err(|error| self.storage_error(error))
    }

    fn read_u64(&self, key: &[u8]) -> Result<Option<u64>, ServerError> {
        let Some(record) = self.read(key)? else { return Ok(None) };
        let bytes = record.as_ref().try_into().map_err(|_| {
            let detail = "a node record is not eight bytes long".to_string();
            self.storage_error(StorageError::Corruption { detail })
        })?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    fn write(&self, key: &'static [u8], value: Vec<u8>) -> Result<(), ServerError> {
        let mut batch = WriteBatch::new();
        batch.put(Family::Node, key, value);
        self.log.write(batch, Durability::Synced).map_err(|error| self.storage_error(error))
    }

    fn storage_error(&self, error: StorageError) -> ServerError {
        ServerError::Storage { path: self.path.clone(), error }
    }
}
