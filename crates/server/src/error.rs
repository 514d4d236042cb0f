//! Why a command ends with exit status 1. Each message is one line that says what to change.

use std::net::SocketAddr;
use std::path::PathBuf;

use meridian_member::Decommissioned;
use meridian_storage::StorageError;

/// An error that ends the process.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Flags that don't go together.
    #[error("{detail}")]
    Usage {
        /// What to change.
        detail: String,
    },
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen on {address} for {what}: {error}")]
    Listen {
        /// Which service.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The folder can't be created or read.
    #[error("data folder {}: {error}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The storage engine does not open.
    #[error("data folder {}: {error}", .path.display())]
    Storage {
        /// Which.
        path: PathBuf,
        /// Why.
        error: StorageError,
    },
    /// The folder was written by another version.
    #[error("data folder {} has format {found}, this binary reads format {known}", .path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// The folder's.
        found: u64,
        /// This binary's.
        known: u64,
    },
    /// The folder belongs to another cluster than the peers do.
    #[error("data folder belongs to cluster {mine:032x}, but {peer} belongs to another one")]
    ForeignFolder {
        /// The folder's cluster.
        mine: u128,
        /// Who disagrees.
        peer: String,
    },
    /// A later node has taken over the address of this one.
    #[error(
        "data folder is that of node {node}, but {peer} knows a node that joined later at the same address"
    )]
    Superseded {
        /// The folder's node.
        node: u32,
        /// Who says so.
        peer: String,
    },
    /// The folder's node has left the cluster for good.
    #[error(transparent)]
    Decommissioned(#[from] Decommissioned),
    /// The folder does not know (any more) what its node has promised.
    #[error(
        "data folder {}: {detail}; a node that does not know what it has promised must not vote as the node that it was: \
         move the folder away and start again, and it joins as a new node",
        .path.display()
    )]
    LogLost {
        /// Which.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The other side refused or is not there.
    #[error("{0}")]
    Admin(#[from] meridian_rpc::admin::AdminError),
    /// A certificate or its key is of no use.
    #[error("{}: {detail}", .path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A latency table can't be read.
    #[error("latency table {name}: {detail}")]
    Latency {
        /// Which.
        name: String,
        /// Why.
        detail: String,
    },
    /// The cluster could not be brought up.
    #[error("cluster did not come up: {detail}")]
    Bootstrap {
        /// Where it stopped.
        detail: String,
    },
}
