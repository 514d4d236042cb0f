//! Time masters over the network.

use std::time::Duration as StdDuration;

use async_trait::async_trait;
use meridian_types::{Duration, Timestamp};
use tonic::transport::Channel;

use crate::grpc::{DialError, endpoint};
use crate::security::Security;
use crate::wire::proto;
use crate::wire::proto::time_master_client::TimeMasterClient;

/// A master that takes longer than this is silent: its interval would be wider than is of use.
const POLL_TIMEOUT: StdDuration = StdDuration::from_millis(800);

/// What a time master says: absolute time lies in `[time - uncertainty, time + uncertainty]`, if it tells the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeReading {
    /// Its clock.
    pub time: Timestamp,
    /// Its own error bound.
    pub uncertainty: Duration,
}

/// The reference behind a time master's server.
#[async_trait]
pub trait TimeService: Send + Sync + 'static {
    /// Reads it; `None` while it is stopped. A master that stalls answers late.
    async fn now(&self) -> Option<TimeReading>;
}

/// Why a poll has no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time master {master} did not answer: {detail}")]
pub struct PollError {
    /// Whom we asked.
    pub master: String,
    /// What happened.
    pub detail: String,
}

/// Asks one time master. The connection is made at the first poll and kept.
pub struct TimeClient {
    master: String,
    security: Security,
    client: Option<TimeMasterClient<Channel>>,
}

impl TimeClient {
    /// A client of the master at `host:port`.
    pub fn new(master: &str, security: Security) -> Self {
        TimeClient { master: master.to_owned(), security, client: None }
    }

    /// Where the master is.
    pub fn master(&self) -> &str {
        &self.master
    }

    /// Makes the connection, so that the round trip of the next poll does not pay for it.
    pub async fn connect(&mut self) -> Result<(), PollError> {
        if self.client.is_none() {
            let dial = async { Ok::<_, DialError>(endpoint(&self.master, &self.security)?.connect().await?) };
            let channel = self.bounded(dial).await?;
            self.client = Some(TimeMasterClient::new(channel));
        }
        Ok(())
    }

    /// Asks for the time. The caller reads its oscillator before and after.
    pub async fn poll(&mut self) -> Result<TimeReading, PollError> {
        self.connect().await?;
        let mut client = self.client.clone().expect("connected above");
        let ask = async { Ok::<_, DialError>(client.now(proto::NowRequest {}).await?.into_inner()) };
        match self.bounded(ask).await {
            Ok(reply) => Ok(TimeReading {
                time: Timestamp::from_nanos(reply.time_ns),
                uncertainty: Duration::from_nanos(reply.uncertainty_ns),
            }),
            Err(error) => {
                self.client = None;
                Err(error)
            }
        }
    }

    async fn bounded<T>(&self, step: impl Future<Output = Result<T, DialError>>) -> Result<T, PollError> {
        let failed = |detail: String| PollError { master: self.master.clone(), detail };
        match tokio::time::timeout(POLL_TIMEOUT, step).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("timed out".to_owned())),
        }
    }
}
