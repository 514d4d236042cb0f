//! The session as its statements see it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use meridian_catalog::{CatalogSnapshot, ClusterTable, Relation, SessionTable, VirtualTable};
use meridian_datum::{Datum, SqlError};
use meridian_exec::{CancelHandle, Rows, SessionView};
use meridian_keys::AdvisoryKey;
use meridian_plan::physical::{AdvisoryAction, AdvisoryCall};
use parking_lot::Mutex;

use crate::advisory::{SessionLocks, Wanted};
use crate::factory::{SessionInfo, Shared};
use crate::settings::Settings;

/// What functions and virtual tables ask of the session.
pub(crate) struct View {
    shared: Arc<Shared>,
    user: Arc<str>,
    database: Arc<str>,
    settings: Arc<Mutex<Settings>>,
    info: Arc<Mutex<SessionInfo>>,
    locks: Arc<SessionLocks>,
}

impl View {
    pub(crate) fn new(
        shared: Arc<Shared>,
        user: Arc<str>,
        database: Arc<str>,
        settings: Arc<Mutex<Settings>>,
        info: Arc<Mutex<SessionInfo>>,
        locks: Arc<SessionLocks>,
    ) -> Self {
        View { shared, user, database, settings, info, locks }
    }
}

fn text(s: &str) -> Datum {
    Datum::from(s)
}

/// Rows of a virtual table from values by column name; columns that nobody fills are NULL.
fn by_name(table: &VirtualTable, rows: impl IntoIterator<Item = Vec<(&'static str, Datum)>>) -> Rows {
    rows.into_iter()
        .map(|mut row| {
            let mut take = |name: &str| {
                row.iter().position(|(n, _)| *n == name).map_or(Datum::Null, |at| row.swap_remove(at).1)
            };
            table.columns.iter().map(|c| take(c.name)).collect()
        })
        .collect()
}

impl meridian_catalog::SessionInfo for View {
    fn database(&self) -> &str {
        &self.database
    }

    fn user(&self) -> Cow<'_, str> {
        match self.settings.lock().show("role") {
            Ok((_, role)) if &*role != "none" => Cow::Owned(role.to_string()),
            _ => Cow::Borrowed(&self.user),
        }
    }

    fn session_user(&self) -> &str {
        &self.user
    }

    fn roles(&self) -> Vec<String> {
        self.shared.server.roles.names()
    }

    fn search_path(&self) -> Vec<String> {
        self.settings.lock().effective().search_path.clone()
    }

    fn backend_pid(&self) -> i32 {
        self.info.lock().pid
    }

    fn client_address(&self) -> Option<SocketAddr> {
        self.info.lock().client
    }

    fn server_address(&self) -> Option<SocketAddr> {
        self.shared.server.address
    }

    fn server_start(&self) -> i64 {
        self.shared.started
    }

    fn transaction_id(&self) -> i64 {
        self.info.lock().transactions
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.lock().show(name).ok().map(|(_, v)| v.to_string())
    }

    fn set_setting(&self, name: &str, value: Option<&str>, local: bool) -> Result<String, SqlError> {
        let mut settings = self.settings.lock();
        settings.set(name, value, local)?;
        Ok(settings.show(name)?.1.to_string())
    }
}

#[async_trait]
impl SessionView for View {
    async fn advisory(
        &self,
        call: AdvisoryCall,
        key: Option<AdvisoryKey>,
        cancel: &CancelHandle,
    ) -> Result<bool, SqlError> {
        let is_exclusive = !call.is_shared;
        let (waits, key) = match (call.action, key) {
            (AdvisoryAction::UnlockAll, _) | (_, None) => {
                self.locks.unlock_all().await;
                return Ok(true);
            }
            (AdvisoryAction::Unlock, Some(key)) => return self.locks.unlock(key, is_exclusive).await,
            (AdvisoryAction::Lock, Some(key)) => (true, key),
            (AdvisoryAction::TryLock, Some(key)) => (false, key),
        };
        let patience = self.settings.lock().effective().lock_timeout;
        let wanted = Wanted { key, is_exclusive, is_of_transaction: call.is_of_transaction };
        self.locks.lock(wanted, waits, patience, cancel).await
    }

    fn resolve(&self, catalog: &CatalogSnapshot, schema: Option<&str>, name: &str) -> Option<Relation> {
        let effective = self.settings.lock().effective().clone();
        catalog.resolve(&self.database, &effective.search_path, &self.user, schema, name)
    }

    fn settings_rows(&self, table: &VirtualTable) -> Rows {
        let all = self.settings.lock().all();
        by_name(
            table,
            all.into_iter().map(|(name, value)| {
                vec![
                    ("name", text(&name)),
                    ("setting", text(&value)),
                    ("category", text("Meridian")),
                    ("context", text("user")),
                    ("vartype", text("string")),
                    ("source", text("default")),
                    ("boot_val", text(&value)),
                    ("reset_val", text(&value)),
                    ("pending_restart", Datum::Bool(false)),
                ]
            }),
        )
    }

    fn session_rows(&self, which: SessionTable, table: &VirtualTable) -> Rows {
        match which {
            SessionTable::Activity => {
                let sessions: Vec<SessionInfo> =
                    self.shared.sessions.lock().values().map(|s| s.lock().clone()).collect();
                by_name(
                    table,
                    sessions.into_iter().map(|s| {
                        vec![
                            ("datname", text(&s.database)),
                            ("pid", Datum::Int(i64::from(s.pid))),
                            ("usename", text(&s.user)),
                            ("application_name", text(&s.application)),
                            ("client_addr", s.client.map_or(Datum::Null, |c| text(&c.ip().to_string()))),
                            (
                                "client_port",
                                s.client.map_or(Datum::Null, |c| Datum::Int(i64::from(c.port()))),
                            ),
                            ("backend_start", Datum::TimestampTz(s.started)),
                            ("query_start", Datum::TimestampTz(s.query_started)),
                            ("state_change", Datum::TimestampTz(s.query_started)),
                            ("state", text(s.state)),
                            ("query", text(&s.query)),
                            ("backend_type", text("client backend")),
                        ]
                    }),
                )
            }
            SessionTable::PreparedStatements => {
                let prepared = self.info.lock().prepared.clone();
                by_name(
                    table,
                    prepared.into_iter().map(|(name, statement, from_sql)| {
                        vec![
                            ("name", text(&name)),
                            ("statement", text(&statement)),
                            ("from_sql", from_sql.into()),
                        ]
                    }),
                )
            }
            SessionTable::Settings => self.settings_rows(table),
        }
    }

    fn cluster_sessions(&self) -> Rows {
        let node = i64::from(self.shared.cluster.local_node().get());
        let sessions: Vec<SessionInfo> =
            self.shared.sessions.lock().values().map(|s| s.lock().clone()).collect();
        sessions
            .into_iter()
            .map(|s| {
                vec![
                    Datum::Int(node),
                    Datum::Int(s.id as i64),
                    text(&s.user),
                    text(&s.database),
                    text(&s.application),
                    s.client.map_or(Datum::Null, |c| text(&c.to_string())),
                    Datum::TimestampTz(s.started),
                    text(s.state),
                    Datum::TimestampTz(s.query_started),
                    text(&s.query),
                ]
            })
            .collect()
    }

    fn cluster_table(&self, which: ClusterTable) -> Rows {
        match which {
            ClusterTable::Settings => {
                let all = self.shared.server.cluster.all().into_iter();
                all.map(|row| row.iter().map(|s| text(s)).collect()).collect()
            }
            ClusterTable::Statements => self.shared.statistics.rows(),
            _ => Vec::new(),
        }
    }
}
