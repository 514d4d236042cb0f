//! Seeds of whole nodes. `SEED=n` runs one alone.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meridian_sim_nodes::{Options, run};
use meridian_types::{GroupId, NodeId};

/// How long fresh seeds are run.
const FRESH: Duration = Duration::from_secs(40);

/// The shard of the workload's table that holds its rows; those that were split off it are empty.
const ROWS: GroupId = GroupId::new(100);

/// What nodes say is shown where `RUST_LOG` asks for it.
fn listen() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    // The first test of the process sets it for all.
    let _is_first = tracing_subscriber::fmt().with_env_filter(filter).without_time().try_init();
}

#[test]
fn without_faults_everything_succeeds() {
    listen();
    let options = Options { faults: false, workload: Some("list-append"), ..Options::default() };
    let report = run(1, &options).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.counts.ok > 500, "{report}");
    assert_eq!(report.counts.unknown, 0, "{report}");
}

/// Wherever the clients are, the shard that holds their rows is led there half a minute later, and no commit is lost on the
/// way.
#[test]
fn leaders_follow_their_clients() {
    listen();
    for node in 1..=3 {
        let at = Some(NodeId::new(node));
        let options = Options {
            nodes: Some(3),
            time: Duration::from_secs(30),
            workload: Some("register"),
            clients: 20,
            at,
            faults: false,
        };
        let report = run(u64::from(node), &options).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(report.counts.unknown, 0, "{report}");
        assert_eq!(report.leaders.get(&ROWS).copied(), at, "{:?}", report.leaders);
    }
}

fn run_seed(seed: u64) {
    match run(seed, &Options::default()) {
        Ok(report) => println!("seed {seed}: {report}"),
        Err(violation) => panic!("{violation}\nSEED={seed} runs it again"),
    }
}

#[test]
fn seeds() {
    listen();
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=10).collect(),
    };
    seeds.into_iter().for_each(run_seed);
}

/// Seeds that nobody has run before, as many as fit into a while.
#[test]
fn fresh_seeds() {
    if std::env::var_os("SEED").is_some() {
        return;
    }
    listen();
    let first = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64;
    let begun = Instant::now();
    (first..).take_while(|_| begun.elapsed() < FRESH).for_each(run_seed);
}
