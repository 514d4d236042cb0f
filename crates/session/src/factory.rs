//! Making sessions, and knowing which there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_catalog::CatalogCache;
use meridian_datum::{SqlError, SqlState};
use meridian_exec::sql_error;
use meridian_kv_api::{Cluster, Kv};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::advisory::NodeLocks;
use crate::api::SessionParams;
use crate::cluster_settings::ClusterSettings;
use crate::copied::CopyBudget;
use crate::replay::RetryCounters;
use crate::roles::{self, Role, Roles};
use crate::session::Session;
use crate::settings::Settings;
use crate::statistics::Statistics;

/// Settings of the server that are the defaults of its sessions.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// Names and values, as `SET` takes them.
    pub defaults: Vec<(String, String)>,
    /// Where SQL is served, for `inet_server_addr()`.
    pub address: Option<std::net::SocketAddr>,
    /// Those of the whole cluster, as this node knows them. Whoever runs the node keeps them fresh.
    pub cluster: Arc<ClusterSettings>,
    /// The cluster's roles, as this node knows them; kept fresh likewise.
    pub roles: Arc<Roles>,
    /// Seed of all that is random in sessions: a run is the same again where all else is. Drawn anew at each start.
    pub seed: u64,
}

/// Makes sessions. Cheap to clone.
#[derive(Clone)]
pub struct SessionFactory {
    pub(crate) shared: Arc<Shared>,
}

/// What the sessions of a node share.
pub(crate) struct Shared {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) catalog: Arc<CatalogCache>,
    pub(crate) server: ServerSettings,
    pub(crate) locks: Arc<NodeLocks>,
    pub(crate) sessions: Mutex<BTreeMap<u64, Arc<Mutex<SessionInfo>>>>,
    pub(crate) retries: RetryCounters,
    pub(crate) copied: CopyBudget,
    pub(crate) statistics: Statistics,
    next_session: AtomicU64,
    /// Seeds of sessions.
    rng: Mutex<StdRng>,
    /// When the factory was made, in microseconds of the PostgreSQL epoch.
    pub(crate) started: i64,
}

/// What is shown of a session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Counts the sessions of the node.
    pub id: u64,
    /// `pg_backend_pid()`
    pub pid: i32,
    /// Who.
    pub user: String,
    /// Where.
    pub database: String,
    /// The peer.
    pub client: Option<std::net::SocketAddr>,
    /// `application_name`
    pub application: Arc<str>,
    /// `idle`, `active`, `idle in transaction`, `idle in transaction (aborted)`
    pub state: &'static str,
    /// The statement that runs, or ran last.
    pub query: Arc<str>,
    /// When the session began, in microseconds of the PostgreSQL epoch.
    pub started: i64,
    /// When the statement began.
    pub query_started: i64,
    /// Counts the session's transactions.
    pub transactions: i64,
    /// Prepared statements: name, text, made by PREPARE.
    pub prepared: Vec<(String, Arc<str>, bool)>,
}

impl SessionFactory {
    /// A factory of sessions on a store.
    pub fn new(
        kv: Arc<dyn Kv>,
        cluster: Arc<dyn Cluster>,
        catalog: Arc<CatalogCache>,
        server: ServerSettings,
    ) -> Self {
        let rng = Mutex::new(StdRng::seed_from_u64(server.seed));
        SessionFactory {
            shared: Arc::new(Shared {
                locks: NodeLocks::new(kv.clone(), cluster.local_node()),
                kv,
                cluster,
                catalog,
                server,
                sessions: Mutex::default(),
                retries: RetryCounters::default(),
                copied: CopyBudget::default(),
                statistics: Statistics::default(),
                next_session: AtomicU64::new(1),
                rng,
                started: crate::session::now_micros(),
            }),
        }
    }

    /// Begins a session.
    ///
    /// # Errors
    /// 3D000 for an unknown database; the errors of `SET` for settings of the start-up packet.
    pub async fn open(&self, params: SessionParams) -> Result<Session, SqlError> {
        let catalog = self.shared.catalog.acquire().await.map_err(sql_error)?;
        if catalog.snapshot().database(&params.database).is_none() {
            let message = format!("database \"{}\" does not exist", params.database);
            return Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, message));
        }
        let settings = Settings::new(&params.user, &self.shared.server.defaults, &params.settings)?;
        let id = self.shared.next_session.fetch_add(1, Ordering::Relaxed);
        let seed = self.shared.rng.lock().random();
        Ok(Session::new(self.shared.clone(), (id, seed), params, settings))
    }

    /// What is known of the role `name`; `None` where there is no such role.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn role(&self, name: &str) -> Result<Option<Role>, SqlError> {
        roles::role(&*self.shared.kv, name).await
    }

    /// What the sessions of this node count, by name.
    pub fn counters(&self) -> Vec<(String, u64)> {
        self.shared.retries.list()
    }

    /// The sessions of this node.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.sessions.lock().values().map(|s| s.lock().clone()).collect()
    }
}
