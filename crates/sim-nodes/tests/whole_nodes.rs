//! Seeds of whole nodes. `SEED=n` runs one alone.

use meridian_sim_nodes::{Options, run};

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

#[test]
fn seeds() {
    listen();
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=10).collect(),
    };
    for seed in seeds {
        match run(seed, &Options::default()) {
            Ok(report) => println!("seed {seed}: {report}"),
            Err(violation) => panic!("{violation}\nSEED={seed} runs it again"),
        }
    }
}
