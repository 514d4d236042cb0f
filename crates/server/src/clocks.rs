//! Time masters as servers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use meridian_rpc::{TimeReading, TimeService, serve_time_master};
use meridian_truetime::{MasterFault, MasterModel};
use meridian_types::{Duration, SeededRng, Timestamp};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{MasterOptions, ServerError};

/// A master's reference is the machine's time of day, which stands in for GPS: masters on one machine agree on it.
struct SimulatedMaster {
    model: MasterModel,
    /// A constant offset of the reference itself, beside the model's drift.
    offset_ns: i64,
    jitter: Mutex<SeededRng>,
}

/// A healthy master's reference wanders by up to this part of its uncertainty, so that masters differ as real ones do.
const JITTER_DIVISOR: u64 = 4;

impl SimulatedMaster {
    fn new(options: &MasterOptions) -> Self {
        let mut model = MasterModel::gps(options.uncertainty.into());
        if options.drift_ppm != 0 {
            model.fault = MasterFault::Drift { since: time_of_day(), drift_ppm: options.drift_ppm };
        }
        SimulatedMaster {
            model,
            offset_ns: options.offset_ns,
            jitter: Mutex::new(SeededRng::new(options.seed)),
        }
    }
}

#[async_trait]
impl TimeService for SimulatedMaster {
    async fn now(&self) -> Option<TimeReading> {
        let wander = self.model.uncertainty.as_nanos() / JITTER_DIVISOR;
        let wander = self.jitter.lock().below(2 * wander + 1) as i64 - wander as i64;
        let shifted = time_of_day().as_nanos().saturating_add_signed(self.offset_ns.saturating_add(wander));
        let answer = self.model.answer(Timestamp::from_nanos(shifted))?;
        let uncertainty = answer.epsilon();
        Some(TimeReading { time: answer.earliest() + uncertainty, uncertainty })
    }
}

fn time_of_day() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO + Duration::from(since_epoch)
}

/// Serves a master until `shutdown`.
///
/// # Errors
/// The server broke.
pub(crate) async fn run_master(
    listener: TcpListener,
    options: &MasterOptions,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let master: Arc<dyn TimeService> = Arc::new(SimulatedMaster::new(options));
    serve_time_master(listener, master, shutdown.cancelled_owned())
        .await
        .map_err(|error| ServerError::Bootstrap { detail: error.to_string() })
}
