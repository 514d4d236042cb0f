//! Who a node is, and whom it knows: what its folder remembers outside of any shard.
//!
//! The records are in the log engine's Node family, written synced: the format's version and the folder's own id when the
//! folder is made, cluster and node id once the node is a member, the first nodes of the cluster with them, the address
//! book whenever it changes.
//!
//! Invariant (I-3, as far as whole folders go): a node id belongs to one folder for ever. The log engine holds what the
//! node has promised, so whoever has lost it gets another id (see `admin`), and the id is in the same engine as the
//! promises. The data engine carries the folder's id too: data whose log is gone is not taken for a node's.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_keys::local::{
    NODE_FOLDER, NODE_FORMAT, NODE_IDENTITY, NODE_INCARNATION, NODE_PEERS, NODE_PLAN,
};
use meridian_node::{Damage, Horizons, Sweep};
use meridian_rpc::admin::NodeAddress;
use meridian_storage::{Durability, Engine, Family, StorageError, WriteBatch};
use meridian_storage_rocksdb::{GarbagePolicy, Options, RocksEngine, SharedCache, VersionFilter};
use meridian_types::{ClusterId, FolderId, NodeId};
use parking_lot::Mutex;
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
    /// Drawn when the folder was made.
    pub(crate) id: FolderId,
    pub(crate) log: Arc<RocksEngine>,
    pub(crate) data: Arc<RocksEngine>,
    /// What compactions of `data` may drop.
    pub(crate) horizons: Arc<Horizons>,
    /// How often a process has started on this folder, this one included.
    pub(crate) incarnation: u64,
    /// Held while the plan is changed.
    planning: Mutex<()>,
    /// Nobody else opens the folder, looks for damage in it or sets parts of it aside.
    _lock: Arc<File>,
}

/// The first nodes of a cluster, and how far this one is with becoming one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) cluster: ClusterId,
    /// In the order of their ids.
    pub(crate) nodes: Vec<NodeAddress>,
    /// `init` was asked for at this node, which goes on with it by itself.
    pub(crate) is_own: bool,
    /// Every node was told.
    pub(crate) complete: bool,
    /// The first replicas of this node were created. They are created once: later ones come as snapshots.
    pub(crate) created: bool,
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

/// Why a folder does not open.
enum Unfit {
    /// Its data is damaged, and can be had again.
    Data(StorageError),
    /// Something that a new data engine would not mend.
    Whole(ServerError),
}

impl Unfit {
    /// What an error of the data engine means.
    fn of_data(path: &Path, error: StorageError) -> Unfit {
        match error {
            StorageError::Corruption { .. } => Unfit::Data(error),
            error => Unfit::Whole(ServerError::Storage { path: path.to_path_buf(), error }),
        }
    }

    fn into_error(self, path: &Path) -> ServerError {
        match self {
            Unfit::Data(error) => ServerError::Storage { path: path.to_path_buf(), error },
            Unfit::Whole(error) => error,
        }
    }
}

impl From<ServerError> for Unfit {
    fn from(error: ServerError) -> Unfit {
        Unfit::Whole(error)
    }
}

/// Makes the folder where it does not exist, and locks it for as long as the file is held.
fn lock(path: &Path) -> Result<Arc<File>, ServerError> {
    let failed = |error| ServerError::Folder { path: path.to_path_buf(), error };
    std::fs::create_dir_all(path).map_err(failed)?;
    let file = File::create(path.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(file)),
        Err(TryLockError::WouldBlock) => {
            let detail = "another process has it open".to_owned();
            Err(ServerError::Storage { path: path.to_path_buf(), error: StorageError::Locked { detail } })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Moves parts of a folder to `name` within it, in the place of what was set aside there before.
fn set_aside(path: &Path, parts: &[&str], name: &str) -> Result<PathBuf, ServerError> {
    let failed = |error| ServerError::Folder { path: path.to_path_buf(), error };
    let aside = path.join(name);
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(failed)?;
    }
    std::fs::create_dir_all(&aside).map_err(failed)?;
    for part in parts {
        let from = path.join(part);
        if from.exists() {
            std::fs::rename(&from, aside.join(part)).map_err(failed)?;
        }
    }
    // The renames are durable before anything new is written.
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(aside)
}

#[derive(Serialize, Deserialize)]
struct PlanRecord {
    cluster: String,
    nodes: Vec<Peer>,
    is_own: bool,
    complete: bool,
    created: bool,
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
    /// Hexadecimal; empty where it is not known.
    #[serde(default)]
    folder: String,
}

impl From<&NodeAddress> for Peer {
    fn from(p: &NodeAddress) -> Peer {
        Peer {
            node: p.node.get(),
            address: p.address.clone(),
            sql_address: p.sql_address.clone(),
            http_address: p.http_address.clone(),
            region: p.region.clone(),
            zone: p.zone.clone(),
            version: p.version.clone(),
            folder: format!("{:x}", p.folder.get()),
        }
    }
}

impl From<Peer> for NodeAddress {
    fn from(p: Peer) -> NodeAddress {
        NodeAddress {
            node: NodeId::new(p.node),
            address: p.address,
            sql_address: p.sql_address,
            http_address: p.http_address,
            region: p.region,
            zone: p.zone,
            version: p.version,
            // One that can't be read is as good as none: it is learned anew.
            folder: FolderId::new(u128::from_str_radix(&p.folder, 16).unwrap_or(0)),
        }
    }
}

impl Folder {
    /// Opens the folder, making it where it does not exist, and counts the start. Damaged data is set aside: it comes back
    /// from the other replicas.
    ///
    /// # Errors
    /// It is locked, not a folder, of another format, or its log is damaged.
    pub(crate) fn open(path: &Path) -> Result<Folder, ServerError> {
        let lock = lock(path)?;
        Folder::open_locked(path, &lock)
    }

    fn open_locked(path: &Path, lock: &Arc<File>) -> Result<Folder, ServerError> {
        match Folder::try_open(path, lock) {
            Err(Unfit::Data(error)) => {
                let aside = set_aside(path, &["data"], "data.damaged")?;
                tracing::error!(
                    %error,
                    aside = %aside.display(),
                    "the data of this node is damaged: it is set aside, and rebuilt from the other replicas"
                );
                let log = Folder::open_log(path, &SharedCache::new(BLOCK_CACHE_BYTES))?;
                meridian_node::forget_damage(&*log)
                    .map_err(|error| ServerError::Storage { path: path.to_path_buf(), error })?;
                drop(log);
                Folder::try_open(path, lock).map_err(|unfit| unfit.into_error(path))
            }
            opened => opened.map_err(|unfit| unfit.into_error(path)),
        }
    }

    /// The same, where a folder whose log is lost or damaged is set aside too, and the node begins anew: it joins as
    /// another one, and takes the place of the one that it was.
    pub(crate) fn open_or_begin_anew(path: &Path) -> Result<Folder, ServerError> {
        let lock = lock(path)?;
        match Folder::open_locked(path, &lock) {
            Err(ServerError::LogLost { detail, .. }) => {
                let aside = set_aside(path, &["log", "data"], "damaged")?;
                tracing::error!(
                    detail,
                    aside = %aside.display(),
                    "the log of this node is damaged, so that it does not know what it has promised: its folder is set \
                     aside, and it joins as a new node"
                );
                Folder::open_locked(path, &lock)
            }
            opened => opened,
        }
    }

    fn open_log(path: &Path, cache: &SharedCache) -> Result<Arc<RocksEngine>, ServerError> {
        let opened = RocksEngine::open(&path.join("log"), &Options::log(cache.clone()));
        opened.map(Arc::new).map_err(|error| log_error(path, error))
    }

    fn try_open(path: &Path, lock: &Arc<File>) -> Result<Folder, Unfit> {
        let cache = SharedCache::new(BLOCK_CACHE_BYTES);
        let log = Folder::open_log(path, &cache)?;
        let horizons = Arc::new(Horizons::default());
        let garbage: Arc<dyn GarbagePolicy> = Arc::new(Collecting(horizons.clone()));
        let options = Options { garbage: Some(garbage), ..Options::data(cache) };
        let data = match RocksEngine::open(&path.join("data"), &options) {
            Ok(data) => Arc::new(data),
            Err(error) => return Err(Unfit::of_data(path, error)),
        };
        let mut folder = Folder {
            path: path.to_path_buf(),
            id: FolderId::default(),
            log,
            data,
            horizons,
            incarnation: 0,
            planning: Mutex::default(),
            _lock: lock.clone(),
        };
        match folder.read_u64(NODE_FORMAT)? {
            None => folder.write(NODE_FORMAT, FORMAT.to_be_bytes().to_vec())?,
            Some(FORMAT) => {}
            Some(found) => {
                return Err(ServerError::Format { path: folder.path, found, known: FORMAT }.into());
            }
        }
        folder.id = folder.own_id()?;
        match meridian_node::verify(&*folder.log, &*folder.data) {
            Ok(()) => {}
            Err(Damage::Data(error)) => return Err(Unfit::of_data(path, error)),
            Err(Damage::Log(error)) => return Err(folder.log_error(error).into()),
        }
        folder.incarnation = folder.read_u64(NODE_INCARNATION)?.unwrap_or(0) + 1;
        folder.write(NODE_INCARNATION, folder.incarnation.to_be_bytes().to_vec())?;
        Ok(folder)
    }

    /// Reads the folder's id, or draws it. The log has it first, so that data with an id and a log without one means that
    /// the log was lost.
    fn own_id(&self) -> Result<FolderId, Unfit> {
        use meridian_storage::Reader;
        let of = |engine: &RocksEngine| {
            let Some(record) = engine.get(Family::Node, NODE_FOLDER)? else { return Ok(None) };
            let malformed = |_| StorageError::Corruption { detail: "the folder's id is malformed".into() };
            let bytes = record.as_ref().try_into().map_err(malformed)?;
            Ok::<_, StorageError>(Some(FolderId::new(u128::from_be_bytes(bytes))))
        };
        let log = of(&self.log).map_err(|error| self.log_error(error))?;
        let data = of(&self.data).map_err(|error| Unfit::of_data(&self.path, error))?;
        if data.is_some() && data != log {
            let detail = "its log is not the one that its data belongs to".to_owned();
            return Err(ServerError::LogLost { path: self.path.clone(), detail }.into());
        }
        let id = log.unwrap_or_else(|| FolderId::new(rand::random()));
        for (engine, known) in [(&self.log, log), (&self.data, data)] {
            if known.is_none() {
                let mut batch = WriteBatch::new();
                batch.put(Family::Node, NODE_FOLDER, id.get().to_be_bytes().to_vec());
                let written = engine.write(batch, Durability::Synced);
                written.map_err(|error| ServerError::Storage { path: self.path.clone(), error })?;
            }
        }
        Ok(id)
    }

    /// Who this node is, once it is a member.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, ServerError> {
        let Some(record) = self.read(NODE_IDENTITY)? else { return Ok(None) };
        let corrupt = || self.corrupt("the node's identity is malformed");
        let (cluster, node) = record.split_at_checked(16).ok_or_else(corrupt)?;
        let cluster = ClusterId::new(u128::from_be_bytes(cluster.try_into().map_err(|_| corrupt())?));
        let node = NodeId::new(u32::from_be_bytes(node.try_into().map_err(|_| corrupt())?));
        Ok(Some(Identity { cluster, node }))
    }

    /// Remembers who this node is, and with it the plan of a cluster that it is among the first nodes of. The identity never
    /// changes once written.
    ///
    /// # Panics
    /// When the folder has another identity: a node that changed its id would vote twice.
    pub(crate) fn set_identity(&self, identity: Identity, plan: Option<Plan>) -> Result<(), ServerError> {
        let _planning = self.planning.lock();
        if let Some(known) = self.identity()? {
            assert!(known == identity, "the identity of a data folder may not change");
        }
        let mut record = identity.cluster.get().to_be_bytes().to_vec();
        record.extend_from_slice(&identity.node.get().to_be_bytes());
        let mut batch = WriteBatch::new();
        batch.put(Family::Node, NODE_IDENTITY, record);
        if let Some(plan) = plan {
            batch.put(Family::Node, NODE_PLAN, encode_plan(&plan));
        }
        self.write_batch(batch)
    }

    /// The first nodes of the cluster, where this node is or was to be one of them.
    pub(crate) fn plan(&self) -> Result<Option<Plan>, ServerError> {
        let Some(record) = self.read(NODE_PLAN)? else { return Ok(None) };
        let record: PlanRecord =
            serde_json::from_slice(&record).map_err(|e| self.corrupt(&format!("the plan: {e}")))?;
        let cluster = u128::from_str_radix(&record.cluster, 16);
        Ok(Some(Plan {
            cluster: ClusterId::new(cluster.map_err(|e| self.corrupt(&format!("the plan's cluster: {e}")))?),
            nodes: record.nodes.into_iter().map(Into::into).collect(),
            is_own: record.is_own,
            complete: record.complete,
            created: record.created,
        }))
    }

    /// Remembers the plan of a cluster that is to be made.
    pub(crate) fn set_plan(&self, plan: &Plan) -> Result<(), ServerError> {
        let _planning = self.planning.lock();
        self.write(NODE_PLAN, encode_plan(plan))
    }

    /// Notes how far the plan has come. Does nothing where there is none.
    pub(crate) fn advance_plan(&self, change: impl FnOnce(&mut Plan)) -> Result<(), ServerError> {
        let _planning = self.planning.lock();
        let Some(mut plan) = self.plan()? else { return Ok(()) };
        let before = plan.clone();
        change(&mut plan);
        if plan == before { Ok(()) } else { self.write(NODE_PLAN, encode_plan(&plan)) }
    }

    /// The address book as last known.
    pub(crate) fn peers(&self) -> Result<Vec<NodeAddress>, ServerError> {
        let Some(record) = self.read(NODE_PEERS)? else { return Ok(Vec::new()) };
        let peers: Vec<Peer> =
            serde_json::from_slice(&record).map_err(|e| self.corrupt(&format!("the address book: {e}")))?;
        Ok(peers.into_iter().map(Into::into).collect())
    }

    /// Remembers the address book.
    pub(crate) fn set_peers(&self, peers: &[NodeAddress]) -> Result<(), ServerError> {
        let peers: Vec<Peer> = peers.iter().map(Into::into).collect();
        self.write(NODE_PEERS, serde_json::to_vec(&peers).expect("plain data is JSON"))
    }

    fn read(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, ServerError> {
        use meridian_storage::Reader;
        self.log.get(Family::Node, key).map_err(|error| self.log_error(error))
    }

    fn read_u64(&self, key: &[u8]) -> Result<Option<u64>, ServerError> {
        let Some(record) = self.read(key)? else { return Ok(None) };
        let bytes =
            record.as_ref().try_into().map_err(|_| self.corrupt("a node record is not eight bytes long"))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    fn write(&self, key: &'static [u8], value: Vec<u8>) -> Result<(), ServerError> {
        let mut batch = WriteBatch::new();
        batch.put(Family::Node, key, value);
        self.write_batch(batch)
    }

    fn write_batch(&self, batch: WriteBatch) -> Result<(), ServerError> {
        self.log.write(batch, Durability::Synced).map_err(|error| self.log_error(error))
    }

    fn corrupt(&self, detail: &str) -> ServerError {
        self.log_error(StorageError::Corruption { detail: detail.to_owned() })
    }

    fn log_error(&self, error: StorageError) -> ServerError {
        log_error(&self.path, error)
    }
}

/// What an error of the log engine means.
fn log_error(path: &Path, error: StorageError) -> ServerError {
    let path = path.to_path_buf();
    match error {
        StorageError::Corruption { detail } => ServerError::LogLost { path, detail },
        error => ServerError::Storage { path, error },
    }
}

fn encode_plan(plan: &Plan) -> Vec<u8> {
    let record = PlanRecord {
        cluster: format!("{:x}", plan.cluster.get()),
        nodes: plan.nodes.iter().map(Into::into).collect(),
        is_own: plan.is_own,
        complete: plan.complete,
        created: plan.created,
    };
    serde_json::to_vec(&record).expect("plain data is JSON")
}
