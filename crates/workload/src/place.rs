//! Where a workload connects to.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::{Client, Error, NoTls};

/// A place where SQL is served.
#[async_trait]
pub trait Place: Debug + Send + Sync {
    /// Opens a connection.
    async fn connect(&self) -> Result<Client, Error>;
}

/// A connection string.
#[derive(Clone, Debug)]
struct Url(String);

#[async_trait]
impl Place for Url {
    async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = tokio_postgres::connect(&self.0, NoTls).await?;
        tokio::spawn(async move {
            // An error here reaches the client as a failed call.
            let _ = connection.await;
        });
        Ok(client)
    }
}

/// The places that connection strings name.
pub fn places(urls: &[String]) -> Vec<Arc<dyn Place>> {
    urls.iter().map(|url| Arc::new(Url(url.clone())) as Arc<dyn Place>).collect()
}
