//! Time masters as servers.

use std::sync::Arc;
use std::time::Duration;

use meridian_node::{SimulatedMaster, machine_time};
use meridian_rpc::{Security, serve_time_master};
use meridian_truetime::{MasterFault, MasterModel};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{MasterOptions, ServerError};

/// The error bound of a master that was not told another: that of a GPS receiver on the same site.
pub(crate) const DEFAULT_UNCERTAINTY: Duration = Duration::from_micros(100);

/// A master's reference is the machine's time of day, which stands in for GPS: masters on one machine agree on it.
fn model(options: &MasterOptions) -> MasterModel {
    let mut model = MasterModel::gps(options.uncertainty.into());
    if options.drift_ppm != 0 {
        model.fault = MasterFault::Drift { since: machine_time(), drift_ppm: options.drift_ppm };
    } else if options.offset_ns != 0 {
        model.fault = MasterFault::Lie { offset_ns: options.offset_ns };
    }
    model
}

/// Serves a master until `shutdown`.
///
/// # Errors
/// The server broke.
pub(crate) async fn run_master(
    listener: TcpListener,
    options: &MasterOptions,
    security: &Security,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let master = Arc::new(SimulatedMaster::new(&options.listen.to_string(), model(options)));
    serve_time_master(listener, master, security, shutdown.cancelled_owned())
        .await
        .map_err(|error| ServerError::Bootstrap { detail: error.to_string() })
}
