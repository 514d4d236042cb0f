//! Absolute time, and the masters that know it.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use meridian_node::TimeMaster;
use meridian_rpc::PollError;
use meridian_truetime::MasterModel;
use meridian_types::{Timestamp, TtInterval};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// Absolute time at the beginning of every run: any moment long after the epoch.
const BEGINNING_NS: u64 = 1_700_000_000_000_000_000;

/// Absolute time after so many milliseconds of a run.
pub(crate) fn absolute(ms: u64) -> Timestamp {
    Timestamp::from_nanos(BEGINNING_NS + ms * 1_000_000)
}

/// A time master, whose behaviour may change.
pub(crate) type Master = Arc<Mutex<MasterModel>>;

/// The way from one host to a master.
pub(crate) struct Way {
    master: Master,
    name: String,
    /// When the host's clock started to count, and absolute time then.
    origin: (Instant, u64),
    rng: SmallRng,
}

impl Way {
    /// From the host whose runtime this is called in, at `ms` of the run.
    pub(crate) fn new(number: usize, master: &Master, ms: u64, seed: u64) -> Way {
        Way {
            master: master.clone(),
            name: format!("master-{number}"),
            origin: (Instant::now(), ms),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    async fn travel(&mut self) {
        let ms = self.rng.random_range(0..3);
        if ms > 0 {
            tokio::time::sleep(StdDuration::from_millis(ms)).await;
        }
    }
}

#[async_trait]
impl TimeMaster for Way {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn connect(&mut self) -> Result<(), PollError> {
        Ok(())
    }

    async fn poll(&mut self) -> Result<TtInterval, PollError> {
        self.travel().await;
        let (started, ms) = self.origin;
        let now = absolute(ms) + started.elapsed().into();
        let answer = self.master.lock().answer(now);
        self.travel().await;
        answer.ok_or_else(|| PollError { master: self.name.clone(), detail: "stopped".to_owned() })
    }
}
