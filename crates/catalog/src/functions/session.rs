//! What the session knows of itself.

use std::borrow::Cow;
use std::net::SocketAddr;

use meridian_datum::{DataType, Datum, Result, SqlError, SqlState};

use super::{CatalogFunction, Scope, describe};
use crate::snapshot::CatalogSnapshot;

/// The session, as functions and tables of the catalog see it.
pub trait SessionInfo {
    /// Its database.
    fn database(&self) -> &str;

    /// `current_user`.
    fn user(&self) -> Cow<'_, str>;

    /// `session_user`: who logged in.
    fn session_user(&self) -> &str;

    /// The roles of the cluster, besides `root`.
    fn roles(&self) -> Vec<String>;

    /// The search path, as set; `$user` is not replaced.
    fn search_path(&self) -> Vec<String>;

    /// The process id of cancel requests.
    fn backend_pid(&self) -> i32;

    /// Where the client connects from; `None` over a local socket.
    fn client_address(&self) -> Option<SocketAddr>;

    /// Where the node accepted the connection.
    fn server_address(&self) -> Option<SocketAddr>;

    /// When the node started: microseconds since 2000-01-01 UTC.
    fn server_start(&self) -> i64;

    /// A number that tells the transactions of the session's node apart.
    fn transaction_id(&self) -> i64;

    /// A setting as `SHOW` prints it; `None` where there is none of this name.
    fn setting(&self, name: &str) -> Option<String>;

    /// Sets a setting, until the end of the transaction where `local`, and returns its value as `SHOW` prints it.
    ///
    /// # Errors
    /// 42704 for an unknown setting, 22023 for a value that it does not take, 55P02 for one that cannot be changed.
    fn set_setting(&self, name: &str, value: Option<&str>, local: bool) -> Result<String>;
}

/// UTF8 in PostgreSQL's numbering.
pub(crate) const UTF8: i64 = 6;

/// Encodings by number, as far as clients ask for them.
const ENCODINGS: &[(i64, &str)] =
    &[(0, "SQL_ASCII"), (UTF8, "UTF8"), (8, "LATIN1"), (16, "LATIN9"), (24, "WIN1252")];

/// The search path with `$user` replaced, without schemas that do not exist.
pub(crate) fn effective_path(snapshot: &CatalogSnapshot, session: &dyn SessionInfo) -> Vec<String> {
    let user = session.user();
    let mut path: Vec<String> = Vec::new();
    for entry in session.search_path() {
        let name = if entry == "$user" { user.clone().into_owned() } else { entry };
        if snapshot.has_schema(session.database(), &name) && !path.contains(&name) {
            path.push(name);
        }
    }
    path
}

pub(super) fn evaluate(function: CatalogFunction, args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    use CatalogFunction as F;
    let session = scope.session;
    let port = |a: Option<SocketAddr>| a.map(|a| i32::from(a.port())).into();
    let host = |a: Option<SocketAddr>| a.map(|a| a.ip().to_string()).into();
    Ok(match function {
        F::Version => Datum::from(version()),
        F::CurrentDatabase => Datum::from(session.database()),
        F::CurrentSchema => effective_path(scope.snapshot, session).into_iter().next().into(),
        F::CurrentSchemas => {
            let mut path = effective_path(scope.snapshot, session);
            if args[0].as_bool() == Some(true) && !path.iter().any(|s| s == "pg_catalog") {
                path.insert(0, "pg_catalog".to_owned());
            }
            describe::array(DataType::Name, path.into_iter().map(Datum::from).collect())
        }
        F::CurrentUser => Datum::from(&*session.user()),
        F::SessionUser => Datum::from(session.session_user()),
        F::BackendPid => Datum::from(session.backend_pid()),
        F::ServerAddress => host(session.server_address()),
        F::ServerPort => port(session.server_address()),
        F::ClientAddress => host(session.client_address()),
        F::ClientPort => port(session.client_address()),
        F::TransactionId => Datum::Int(session.transaction_id()),
        F::ServerStart => Datum::TimestampTz(session.server_start()),
        F::CurrentSetting => current_setting(args, session)?,
        F::SetConfig => set_config(args, session)?,
        F::EncodingToChar => {
            let number = args[0].as_int();
            Datum::from(ENCODINGS.iter().find(|(n, _)| Some(*n) == number).map_or("", |(_, name)| *name))
        }
        F::CharToEncoding => {
            let wanted = args[0].as_str().unwrap_or_default().replace(['-', '_'], "");
            let found =
                ENCODINGS.iter().find(|(_, name)| name.replace('_', "").eq_ignore_ascii_case(&wanted));
            Datum::Int(found.map_or(-1, |(n, _)| *n))
        }
        F::DatabaseEncoding => Datum::from("UTF8"),
        other => panic!("{other:?} does not ask the session"),
    })
}

/// What `version()` answers. Clients parse the number behind the first word.
fn version() -> String {
    format!("PostgreSQL 15.0 (Meridian {})", env!("CARGO_PKG_VERSION"))
}

fn current_setting(args: &[Datum], session: &dyn SessionInfo) -> Result<Datum> {
    let name = args[0].as_str().unwrap_or_default();
    let missing_ok = args.get(1).and_then(Datum::as_bool).unwrap_or(false);
    match session.setting(name) {
        Some(value) => Ok(Datum::from(value)),
        None if missing_ok => Ok(Datum::Null),
        None => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

fn set_config(args: &[Datum], session: &dyn SessionInfo) -> Result<Datum> {
    let Some(name) = args[0].as_str() else {
        return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "SET requires parameter name"));
    };
    let local = args[2].as_bool().unwrap_or(false);
    session.set_setting(name, args[1].as_str(), local).map(Datum::from)
}
