//! Prometheus text from a node's status.

use std::fmt::Write;

use meridian_rpc::admin::NodeStatus;

/// The metrics of this node.
pub(crate) fn render(status: &NodeStatus) -> String {
    let mut out = String::with_capacity(4096);
    let mut gauge = |name: &str, help: &str, value: f64| {
        writeln!(out, "# HELP meridian_{name} {help}\n# TYPE meridian_{name} gauge\nmeridian_{name} {value}")
            .expect("a string takes any text");
    };
    let leads = status.replicas.iter().filter(|r| r.is_leader).count();
    let sum =
        |f: fn(&meridian_shard::ReplicaStatus) -> usize| status.replicas.iter().map(f).sum::<usize>() as f64;
    gauge("sessions", "Open SQL sessions.", status.sessions as f64);
    gauge("transactions", "Open read-write transactions of this gateway.", status.transactions as f64);
    gauge("replicas", "Shard replicas on this node.", status.replicas.len() as f64);
    gauge("leaders", "Shards that this node leads.", leads as f64);
    gauge("prepared_transactions", "Prepared and undecided transactions.", sum(|r| r.prepared));
    gauge("lock_holders", "Transactions that hold locks here.", sum(|r| r.lock_holders));
    gauge("lock_waiters", "Requests that wait for a lock here.", sum(|r| r.lock_waiters));
    gauge("disk_failed", "1 when the log cannot be written.", f64::from(u8::from(status.disk_failed)));
    gauge("uptime_seconds", "Seconds since the start.", status.uptime_ns as f64 / 1e9);
    gauge(
        "clock_sure",
        "1 while the clock is bounded.",
        f64::from(u8::from(status.clock.interval.is_some())),
    );
    if let Some((earliest, latest)) = status.clock.interval {
        let epsilon = (latest - earliest).half_up().as_nanos();
        gauge("clock_epsilon_seconds", "Half the width of TrueTime's interval.", epsilon as f64 / 1e9);
    }
    if let Some(parts) = status.clock.parts {
        let seconds = |ns: u64| ns as f64 / 1e9;
        gauge(
            "clock_epsilon_masters_seconds",
            "The part of epsilon that the time masters do not know themselves.",
            seconds(parts.masters_ns),
        );
        gauge(
            "clock_epsilon_network_seconds",
            "The part of epsilon that comes from the way to the time masters.",
            seconds(parts.network_ns),
        );
        gauge(
            "clock_epsilon_drift_seconds",
            "The part of epsilon that has grown since the last poll.",
            seconds(parts.drift_ns),
        );
    }
    let rejected = status.clock.sources.iter().filter(|s| !s.accepted).count();
    gauge("clock_masters_rejected", "Time masters that are silent or disagree.", rejected as f64);
    gauge(
        "clock_drift_faults",
        "How often the time masters' agreements contradicted each other.",
        status.clock.drift_faults as f64,
    );
    writeln!(out, "# HELP meridian_clock_master_accepted 1 for masters inside of the majority's interval.")
        .expect("a string takes any text");
    writeln!(out, "# TYPE meridian_clock_master_accepted gauge").expect("a string takes any text");
    for source in &status.clock.sources {
        let master = source.master.replace(['"', '\\', '\n'], "_");
        let accepted = u8::from(source.accepted);
        writeln!(out, "meridian_clock_master_accepted{{master=\"{master}\"}} {accepted}")
            .expect("a string takes any text");
    }
    for (name, value) in &status.counters {
        writeln!(out, "# TYPE meridian_{name}_total counter\nmeridian_{name}_total {value}")
            .expect("a string takes any text");
    }
    out
}
