//! The command line. Every flag may also come from a `MERIDIAN_*` variable or from the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use meridian_server::{ClockSource, DemoOptions, Latency, MasterOptions, ServerError, StartOptions, Target};
use meridian_sim::cluster::Faults;

use crate::sim::SimOptions;

/// A globally distributed SQL database that speaks the Postgres protocol.
#[derive(Parser, Debug)]
#[command(name = "meridian", version, args_override_self = true)]
pub(crate) struct Cli {
    /// Log filter, as in `info` or `meridian_node=debug,warn`.
    #[arg(long, env = "MERIDIAN_LOG", default_value = "warn", global = true)]
    pub(crate) log: String,

    /// Log format.
    #[arg(long, env = "MERIDIAN_LOG_FORMAT", default_value = "text", global = true, value_parser = ["text", "json"])]
    pub(crate) log_format: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a whole cluster with its time masters in this process.
    Demo(DemoArgs),
    /// Run one node.
    Start(StartArgs),
    /// Initialise a new cluster, once.
    Init(HostArgs),
    /// Run a time master.
    TimeMaster(TimeMasterArgs),
    /// Show nodes, shards, leaders and clocks.
    Status(StatusArgs),
    /// Look after the members of a cluster.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Simulate whole clusters under faults on virtual time, and check them.
    Sim(SimArgs),
    /// Check a recorded history for strict serializability: status 0 when valid, 1 when not, 2 when it can't be read.
    Check(CheckArgs),
    /// Prepare or run a workload that checks what it sees, against any addresses.
    Workload(WorkloadArgs),
    /// Print the version.
    Version,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// How many nodes.
    #[arg(long, env = "MERIDIAN_NODES", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// The nodes' regions, dealt out in turn.
    #[arg(long, env = "MERIDIAN_REGIONS", value_delimiter = ',')]
    regions: Vec<String>,
    /// Round trips between regions: `none`, `world`, or a TOML file.
    #[arg(long, env = "MERIDIAN_LATENCY", default_value = "none")]
    latency: Latency,
    /// Keep the data here, and find it again at the next start; a temporary folder otherwise.
    #[arg(long, env = "MERIDIAN_DATA")]
    data: Option<PathBuf>,
    /// SQL port of the first node.
    #[arg(long, env = "MERIDIAN_PG_PORT", default_value_t = 15432)]
    pg_port: u16,
    /// HTTP port of the first node.
    #[arg(long, env = "MERIDIAN_HTTP_PORT", default_value_t = 18080)]
    http_port: u16,
    /// Into how many shards a new table is split.
    #[arg(long, env = "MERIDIAN_SHARDS_PER_TABLE", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards_per_table: u16,
}

impl From<DemoArgs> for DemoOptions {
    fn from(args: DemoArgs) -> Self {
        DemoOptions {
            nodes: usize::from(args.nodes),
            regions: args.regions,
            latency: args.latency,
            data: args.data,
            pg_port: args.pg_port,
            http_port: args.http_port,
            shards_per_table: u32::from(args.shards_per_table),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Where this node keeps its data.
    #[arg(long, env = "MERIDIAN_DATA")]
    data: PathBuf,
    /// Address for the other nodes.
    #[arg(long, env = "MERIDIAN_LISTEN")]
    listen: SocketAddr,
    /// Address for SQL clients.
    #[arg(long, env = "MERIDIAN_PG")]
    pg: SocketAddr,
    /// Address for the console, metrics and health.
    #[arg(long, env = "MERIDIAN_HTTP")]
    http: SocketAddr,
    /// Addresses of the nodes of the cluster; for a new one, of all that shall form it.
    #[arg(long, env = "MERIDIAN_JOIN", value_delimiter = ',', required = true)]
    join: Vec<String>,
    /// The address that other nodes use for this one, where it is not `--listen`.
    #[arg(long, env = "MERIDIAN_ADVERTISE")]
    advertise: Option<String>,
    /// This node's region.
    #[arg(long, env = "MERIDIAN_REGION", default_value = "default")]
    region: String,
    /// This node's zone.
    #[arg(long, env = "MERIDIAN_ZONE", default_value = "default")]
    zone: String,
    /// Addresses of the time masters; those that begin with https:// are asked over TLS.
    #[arg(long, env = "MERIDIAN_TIME_MASTERS", value_delimiter = ',', conflicts_with = "clock")]
    time_masters: Vec<String>,
    /// `system` takes the kernel's clock with its own error bound instead of time masters.
    #[arg(long, env = "MERIDIAN_CLOCK", value_parser = ["system"])]
    clock: Option<String>,
    /// Folder of ca.crt, node.crt and node.key: everything is encrypted, and clients need a certificate or a password.
    #[arg(long, env = "MERIDIAN_CERTS", conflicts_with = "insecure")]
    certs: Option<PathBuf>,
    /// No TLS, any password.
    #[arg(long, env = "MERIDIAN_INSECURE")]
    insecure: bool,
    /// Into how many shards a new table is split.
    #[arg(long, env = "MERIDIAN_SHARDS_PER_TABLE", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards_per_table: u16,
    /// A TOML file with any of these flags as keys. Flags and variables win over it.
    #[arg(long, env = "MERIDIAN_CONFIG")]
    config: Option<PathBuf>,
}

impl TryFrom<StartArgs> for StartOptions {
    type Error = ServerError;

    fn try_from(args: StartArgs) -> Result<Self, ServerError> {
        if args.certs.is_none() && !args.insecure {
            let detail = "a node needs --certs DIR, or --insecure on a trusted network";
            return Err(ServerError::Usage { detail: detail.into() });
        }
        let clock = match (args.clock, args.time_masters) {
            (Some(_), _) => ClockSource::System,
            (None, masters) if masters.is_empty() => {
                return Err(ServerError::Usage {
                    detail: "a node needs --time-masters ADDR,... or --clock system".into(),
                });
            }
            (None, masters) => ClockSource::Masters(masters),
        };
        Ok(StartOptions {
            data: args.data,
            advertise: args.advertise.unwrap_or_else(|| args.listen.to_string()),
            listen: args.listen,
            pg: args.pg,
            http: args.http,
            join: args.join,
            region: args.region,
            zone: args.zone,
            clock,
            certs: args.certs,
            shards_per_table: u32::from(args.shards_per_table),
        })
    }
}

#[derive(Args, Debug)]
pub(crate) struct HostArgs {
    /// A node's address (`--listen`).
    #[arg(long, env = "MERIDIAN_HOST")]
    host: String,
    /// Folder of ca.crt and the operator's client.root.crt and client.root.key (or the node's own), for a cluster with
    /// certificates.
    #[arg(long, env = "MERIDIAN_CERTS")]
    certs: Option<PathBuf>,
}

impl From<HostArgs> for Target {
    fn from(args: HostArgs) -> Self {
        Target { host: args.host, certs: args.certs }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// List the nodes.
    List(HostArgs),
    /// Hand over every shard that the node at --host leads, before it is stopped.
    Drain(HostArgs),
    /// Move every replica away from a node, which may be dead, and take it out of the cluster for good.
    Decommission(DecommissionArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DecommissionArgs {
    #[command(flatten)]
    pub(crate) target: HostArgs,
    /// Which node; the one at --host where it is not said.
    #[arg(long)]
    pub(crate) node: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) target: HostArgs,
    /// For machines.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TimeMasterArgs {
    /// The address to serve on.
    #[arg(long, env = "MERIDIAN_LISTEN")]
    listen: SocketAddr,
    /// The error bound that the master advertises.
    #[arg(long, env = "MERIDIAN_UNCERTAINTY", default_value = "100us", value_parser = parse_span)]
    uncertainty: Duration,
    /// How far it is really off; beyond the bound it lies.
    #[arg(long, env = "MERIDIAN_OFFSET", default_value = "0s", value_parser = parse_signed_span, allow_hyphen_values = true)]
    offset: i64,
    /// How fast it drifts.
    #[arg(long, env = "MERIDIAN_DRIFT_PPM", default_value_t = 0, allow_hyphen_values = true)]
    drift_ppm: i64,
    /// Seed of its jitter.
    #[arg(long, env = "MERIDIAN_SEED", default_value_t = 0)]
    seed: u64,
    /// Folder of ca.crt, node.crt and node.key: answers over TLS only, to holders of a certificate.
    #[arg(long, env = "MERIDIAN_CERTS")]
    certs: Option<PathBuf>,
}

impl From<TimeMasterArgs> for MasterOptions {
    fn from(args: TimeMasterArgs) -> Self {
        MasterOptions {
            listen: args.listen,
            uncertainty: args.uncertainty,
            offset_ns: args.offset,
            drift_ppm: args.drift_ppm,
            seed: args.seed,
            certs: args.certs,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct SimArgs {
    /// The first seed; a fresh one otherwise. The same seed gives the same run.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "for")]
    count: u64,
    /// As many seeds as begin within this time.
    #[arg(long, value_parser = parse_span)]
    r#for: Option<Duration>,
    /// The faults of a run end after so many steps of its scheduler.
    #[arg(long)]
    steps: Option<u64>,
    /// The faults of a run end after this much virtual time.
    #[arg(long, default_value = "30s", value_parser = parse_span)]
    time: Duration,
    /// Which faults may happen: `all`, `none`, or a list such as `crash,loss,clocks`.
    #[arg(long, default_value = "all")]
    faults: Faults,
    /// Write the trace of the (last) run here.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// One line at the end instead of one for each seed.
    #[arg(long)]
    quiet: bool,
}

impl From<SimArgs> for SimOptions {
    fn from(args: SimArgs) -> Self {
        SimOptions {
            seed: args.seed,
            count: args.count,
            within: args.r#for,
            steps: args.steps,
            time: args.time,
            faults: args.faults,
            trace: args.trace,
            quiet: args.quiet,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The history: EDN, one event a line, as `meridian workload run --history` and Jepsen write it.
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct WorkloadArgs {
    #[command(subcommand)]
    pub(crate) step: WorkloadStep,
}

#[derive(Subcommand, Debug)]
pub(crate) enum WorkloadStep {
    /// Make the workload's tables anew.
    Init(WorkloadTarget),
    /// Run the workload: status 1 when it saw what must not be.
    Run(WorkloadRun),
}

#[derive(Args, Debug)]
pub(crate) struct WorkloadTarget {
    /// Which workload.
    #[arg(value_parser = meridian_workload::NAMES)]
    pub(crate) name: String,
    /// Connection strings of the servers.
    #[arg(
        long,
        env = "MERIDIAN_URL",
        value_delimiter = ',',
        default_value = "postgresql://root@127.0.0.1:15432/defaultdb"
    )]
    pub(crate) url: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct WorkloadRun {
    #[command(flatten)]
    pub(crate) target: WorkloadTarget,
    /// For how long.
    #[arg(long, default_value = "60s", value_parser = parse_span)]
    pub(crate) duration: Duration,
    /// How many clients.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) clients: u64,
    /// Seed of the mix of transactions.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Give a transaction up when it takes longer.
    #[arg(long, default_value = "20s", value_parser = parse_span)]
    pub(crate) limit: Duration,
    /// Record the history here, for `meridian check`.
    #[arg(long)]
    pub(crate) history: Option<PathBuf>,
}

/// A span of time with its unit: `250us`, `1ms`, `3s`.
fn parse_span(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(format!("'{text}' needs a unit: ns, us, ms or s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{text}' is not a span of time"))?;
    if !(0.0..=1e9).contains(&number) {
        return Err(format!("'{text}' is out of range"));
    }
    Ok(Duration::from_nanos((number * scale) as u64))
}

fn parse_signed_span(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let span = parse_span(rest)?;
    Ok(sign * i64::try_from(span.as_nanos()).map_err(|_| format!("'{text}' is out of range"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_units() {
        assert_eq!(parse_span("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(parse_span("2.5us"), Ok(Duration::from_nanos(2500)));
        assert_eq!(parse_signed_span("-3s"), Ok(-3_000_000_000));
        assert!(parse_span("5").is_err());
        assert!(parse_span("x ms").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
