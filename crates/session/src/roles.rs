//! Roles and their passwords: `CREATE`, `ALTER` and `DROP ROLE`, and what the SQL port asks when somebody logs in.
//!
//! A role is a row of the system keyspace: a format byte and the verifier of its password, which is PostgreSQL's
//! SCRAM-SHA-256 verifier; the password itself is kept nowhere. `root` is a role without a row, until it gets a
//! password. Each change is a transaction of its own. Nodes read the names every second, for catalog tables; a login
//! reads the row itself, so that a new password counts at once.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_datum::{SqlError, SqlState};
use meridian_exec::sql_error;
use meridian_keys::SystemKey;
use meridian_kv_api::{Kv, KvError, Locking, ReadBound, ReadOnlyOptions};
use meridian_plan::session::{Password, RoleChange};
use parking_lot::RwLock;

use crate::system_rows::{self, Change};

/// The role that there always is.
pub(crate) const ROOT: &str = "root";

/// The only format of a row there is.
const FORMAT: u8 = 1;

/// What is known of a role.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; without it nobody logs in by password.
    pub verifier: Option<String>,
}

impl Role {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        out.put_slice(self.verifier.as_deref().unwrap_or_default().as_bytes());
        out.freeze()
    }

    fn decode(row: &[u8]) -> Result<Role, SqlError> {
        let damaged = || SqlError::new(SqlState::DATA_CORRUPTED, "role has a row that can't be read");
        let (&format, verifier) = row.split_first().ok_or_else(damaged)?;
        let verifier = std::str::from_utf8(verifier).map_err(|_| damaged())?;
        if format != FORMAT {
            return Err(damaged());
        }
        Ok(Role { verifier: Some(verifier.to_owned()).filter(|v| !v.is_empty()) })
    }
}

/// The names of the cluster's roles, as this node knows them.
#[derive(Debug, Default)]
pub struct Roles {
    names: RwLock<BTreeSet<String>>,
}

impl Roles {
    /// Reads the names from the system keyspace.
    ///
    /// # Errors
    /// No replica of it can be read.
    pub async fn refresh(&self, kv: &dyn Kv) -> Result<(), KvError> {
        let rows = system_rows::read_all(kv, SystemKey::all_roles()).await?;
        let name = |(key, _): (meridian_types::Key, Bytes)| match SystemKey::decode(key.as_bytes()) {
            Ok(SystemKey::Role(name)) => Some(name),
            _ => None,
        };
        *self.names.write() = rows.into_iter().filter_map(name).collect();
        Ok(())
    }

    /// The names, sorted; `root` may be among them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.read().iter().cloned().collect()
    }

    /// Carries out a statement; answers its tag. `uses` tells whether a role is in use, and by what.
    pub(crate) async fn change(
        &self,
        kv: &dyn Kv,
        change: &RoleChange,
        uses: impl Fn(&str) -> Option<SqlError>,
    ) -> Result<&'static str, SqlError> {
        match change {
            RoleChange::Create { name, password } => {
                reject_reserved(name)?;
                let role = Role { verifier: password.as_ref().map(verifier_of).transpose()?.flatten() };
                let decide = |row: Option<Bytes>| {
                    if row.is_some() || name == ROOT {
                        let message = format!("role \"{name}\" already exists");
                        return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
                    }
                    Ok(Change::Put(role.encode()))
                };
                system_rows::change(kv, &SystemKey::Role(name.clone()), decide).await?;
                self.names.write().insert(name.clone());
                Ok("CREATE ROLE")
            }
            RoleChange::Alter { name, password } => {
                let verifier = match password {
                    None => None,
                    Some(None) => Some(None),
                    Some(Some(password)) => Some(verifier_of(password)?),
                };
                let decide = |row: Option<Bytes>| {
                    let mut role = match row {
                        Some(row) => Role::decode(&row)?,
                        None if name == ROOT => Role::default(),
                        None => return Err(undefined(name)),
                    };
                    if let Some(verifier) = &verifier {
                        role.verifier.clone_from(verifier);
                    }
                    Ok(Change::Put(role.encode()))
                };
                system_rows::change(kv, &SystemKey::Role(name.clone()), decide).await?;
                self.names.write().insert(name.clone());
                Ok("ALTER ROLE")
            }
            RoleChange::Drop { names, if_exists } => {
                for name in names {
                    if let Some(error) = uses(name) {
                        return Err(error);
                    }
                }
                for name in names {
                    let decide = |row: Option<Bytes>| match row {
                        Some(_) => Ok(Change::Delete),
                        None if *if_exists => Ok(Change::Nothing),
                        None => Err(undefined(name)),
                    };
                    system_rows::change(kv, &SystemKey::Role(name.clone()), decide).await?;
                    self.names.write().remove(name);
                }
                Ok("DROP ROLE")
            }
        }
    }
}

/// What the newest row says of a role; `None` where there is no such role.
///
/// # Errors
/// It can't be read.
pub(crate) async fn role(kv: &dyn Kv, name: &str) -> Result<Option<Role>, SqlError> {
    let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
    let key = SystemKey::Role(name.to_owned()).encode();
    let row = kv.begin_read_only(options).get(key, Locking::SHARED).await.map_err(sql_error)?;
    match row {
        Some(row) => Role::decode(&row).map(Some),
        None if name == ROOT => Ok(Some(Role::default())),
        None => Ok(None),
    }
}

fn undefined(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
}

fn reject_reserved(name: &str) -> Result<(), SqlError> {
    if name.starts_with("pg_") || matches!(name, "public" | "none") {
        let message = format!("role name \"{name}\" is reserved");
        return Err(SqlError::new(SqlState::RESERVED_NAME, message));
    }
    Ok(())
}

/// What is kept of a password. Clients such as psql's `\password` send the verifier itself. An empty password is none.
fn verifier_of(password: &Password) -> Result<Option<String>, SqlError> {
    let text = password.0.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with("SCRAM-SHA-256$") {
        return Ok(Some(text.to_owned()));
    }
    if text.len() == 35 && text.starts_with("md5") && text[3..].bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SqlError::unsupported("passwords encrypted with MD5"));
    }
    Ok(Some(postgres_protocol::password::scram_sha_256(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use meridian_kv_api::MemoryKv;

    use super::*;

    fn password(text: &str) -> Option<Password> {
        Some(Password(text.to_owned()))
    }

    #[tokio::test]
    async fn a_role_is_made_altered_and_dropped_once() {
        let (kv, roles) = (MemoryKv::new(), Roles::default());
        let free = |_: &str| None;
        let create = RoleChange::Create { name: "ann".into(), password: password("secret") };
        assert_eq!(roles.change(&kv, &create, free).await.unwrap(), "CREATE ROLE");
        let known = role(&kv, "ann").await.unwrap().unwrap().verifier.unwrap();
        assert!(known.starts_with("SCRAM-SHA-256$4096:") && !known.contains("secret"), "{known}");
        let again = roles.change(&kv, &create, free).await.unwrap_err();
        assert_eq!(again.state, SqlState::DUPLICATE_OBJECT);
        let alter = RoleChange::Alter { name: "ann".into(), password: Some(password(&known)) };
        roles.change(&kv, &alter, free).await.unwrap();
        assert_eq!(role(&kv, "ann").await.unwrap().unwrap().verifier.as_deref(), Some(known.as_str()));
        let alter = RoleChange::Alter { name: "ann".into(), password: None };
        roles.change(&kv, &alter, free).await.unwrap();
        assert_eq!(role(&kv, "ann").await.unwrap().unwrap().verifier.as_deref(), Some(known.as_str()));
        let alter = RoleChange::Alter { name: "ann".into(), password: Some(None) };
        roles.change(&kv, &alter, free).await.unwrap();
        assert_eq!(role(&kv, "ann").await.unwrap(), Some(Role { verifier: None }));
        let elsewhere = Roles::default();
        elsewhere.refresh(&kv).await.unwrap();
        assert_eq!(elsewhere.names(), ["ann"]);
        let drop = |if_exists| RoleChange::Drop { names: vec!["ann".into()], if_exists };
        let busy = |_: &str| Some(SqlError::new(SqlState::OBJECT_IN_USE, "it is"));
        assert_eq!(roles.change(&kv, &drop(false), busy).await.unwrap_err().state, SqlState::OBJECT_IN_USE);
        roles.change(&kv, &drop(false), free).await.unwrap();
        assert_eq!(role(&kv, "ann").await.unwrap(), None);
        let gone = roles.change(&kv, &drop(false), free).await.unwrap_err();
        assert_eq!(gone.state, SqlState::UNDEFINED_OBJECT);
        roles.change(&kv, &drop(true), free).await.unwrap();
    }

    #[tokio::test]
    async fn root_is_there_without_a_row() {
        let (kv, roles) = (MemoryKv::new(), Roles::default());
        let free = |_: &str| None;
        assert_eq!(role(&kv, "root").await.unwrap(), Some(Role::default()));
        let create = RoleChange::Create { name: "root".into(), password: None };
        assert_eq!(roles.change(&kv, &create, free).await.unwrap_err().state, SqlState::DUPLICATE_OBJECT);
        let alter = RoleChange::Alter { name: "root".into(), password: Some(password("x")) };
        roles.change(&kv, &alter, free).await.unwrap();
        assert!(role(&kv, "root").await.unwrap().unwrap().verifier.is_some());
        let nobody = RoleChange::Alter { name: "bob".into(), password: None };
        assert_eq!(roles.change(&kv, &nobody, free).await.unwrap_err().state, SqlState::UNDEFINED_OBJECT);
    }
}
