//! The folder of `--certs`.
//!
//! | file | what |
//! |---|---|
//! | `ca.crt` | the authorities whose signatures count, for nodes, operators and SQL users |
//! | `node.crt`, `node.key` | this node's certificate (subject `CN=node`, valid for the host that peers and clients dial) and its key |
//! | `client.root.crt`, `client.root.key` | the operator's (`CN=root`), for commands; without it they speak as the node |
//!
//! All are PEM. A key that others than its owner can read is refused, as PostgreSQL does.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use meridian_pgwire_server::PgSecurity;
use meridian_rpc::security::{NODE, OPERATOR, common_name};
use meridian_rpc::{Credentials, Security};

use crate::ServerError;

const AUTHORITIES: &str = "ca.crt";

fn unusable(path: &Path, detail: impl ToString) -> ServerError {
    ServerError::Certificate { path: path.to_owned(), detail: detail.to_string() }
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, ServerError> {
    let path = dir.join(name);
    fs::read(&path).map_err(|error| unusable(&path, error))
}

/// A key that root owns may be readable by a group, such as one of services that share certificates.
fn read_key(dir: &Path, name: &str) -> Result<Vec<u8>, ServerError> {
    let path = dir.join(name);
    let metadata = fs::metadata(&path).map_err(|error| unusable(&path, error))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.permissions().mode() & forbidden != 0 {
        return Err(unusable(&path, "others can read this key: chmod 600 it"));
    }
    read(dir, name)
}

fn load(dir: &Path, stem: &str) -> Result<Credentials, ServerError> {
    let credentials = Credentials {
        authorities: read(dir, AUTHORITIES)?,
        chain: read(dir, &format!("{stem}.crt"))?,
        key: read_key(dir, &format!("{stem}.key"))?,
    };
    // Finds out at once what a dial or a handshake would stumble over later.
    match PgSecurity::new(&credentials.authorities, &credentials.chain, &credentials.key) {
        Ok(_) => Ok(credentials),
        Err(error) => {
            let file = match error.file {
                AUTHORITIES => AUTHORITIES.to_owned(),
                "node.key" => format!("{stem}.key"),
                _ => format!("{stem}.crt"),
            };
            Err(unusable(&dir.join(file), error.detail))
        }
    }
}

/// What a node needs: for its peers, and for its clients.
pub(crate) struct NodeSecurity {
    pub(crate) peers: Security,
    pub(crate) clients: Option<Arc<PgSecurity>>,
}

/// With the certificates of a folder, or without.
///
/// # Errors
/// Something of it is missing, can't be read, or doesn't fit together.
pub(crate) fn of_node(dir: Option<&Path>) -> Result<NodeSecurity, ServerError> {
    let Some(dir) = dir else {
        return Ok(NodeSecurity { peers: Security::none(), clients: None });
    };
    let credentials = load(dir, "node")?;
    let path = dir.join("node.crt");
    let subject = first_subject(&credentials.chain);
    if subject.as_deref() != Some(NODE) {
        let found = subject.map_or("has none".to_owned(), |s| format!("is \"{s}\""));
        let detail = format!("the subject's common name must be \"{NODE}\", but {found}");
        return Err(unusable(&path, detail));
    }
    let clients = PgSecurity::new(&credentials.authorities, &credentials.chain, &credentials.key);
    let clients = clients.map_err(|error| unusable(&path, error.detail))?;
    Ok(NodeSecurity { peers: Security::tls(credentials), clients: Some(Arc::new(clients)) })
}

/// What a command needs.
///
/// # Errors
/// As of [`of_node`].
pub(crate) fn of_operator(dir: Option<&Path>) -> Result<Security, ServerError> {
    let Some(dir) = dir else { return Ok(Security::none()) };
    let stem = format!("client.{OPERATOR}");
    let stem = if dir.join(format!("{stem}.crt")).exists() { stem } else { "node".to_owned() };
    load(dir, &stem).map(Security::tls)
}

fn first_subject(chain: &[u8]) -> Option<String> {
    use meridian_rpc::security::first_certificate;
    common_name(first_certificate(chain)?)
}
