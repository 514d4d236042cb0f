//! How clients reach a node's SQL port.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use meridian_types::NodeId;
use meridian_workload::Place;
use tokio_postgres::{Client, Error, NoTls};

use crate::host::{Faces, client_address};

/// Bytes under way on a connection in each direction.
const WINDOW: usize = 256 << 10;

/// The SQL port of one node.
#[derive(Clone)]
pub(crate) struct NodePlace {
    pub(crate) node: NodeId,
    pub(crate) faces: Faces,
}

impl fmt::Debug for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.node)
    }
}

#[async_trait]
impl Place for NodePlace {
    async fn connect(&self) -> Result<Client, Error> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (ours, theirs) = tokio::io::duplex(WINDOW);
        let face = self.faces.lock().get(&self.node).cloned();
        match face.and_then(|face| Some((face.handle, face.service.get()?.clone()))) {
            Some((handle, service)) => {
                handle.spawn(async move { service.serve(theirs, client_address()).await });
            }
            // Nobody listens: the client sees a connection that ends at once.
            None => drop(theirs),
        }
        let mut config = tokio_postgres::Config::new();
        config.user("root").dbname("defaultdb");
        let (client, connection) = config.connect_raw(ours, NoTls).await?;
        tokio::spawn(async move {
            // An error here reaches the client as a failed call.
            let _ = connection.await;
        });
        Ok(client)
    }
}
