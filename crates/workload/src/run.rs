//! Running a workload: clients, progress, summary.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::outcome::Outcome;
use crate::place::Place;
use crate::recorder::Recorder;
use crate::session::Session;
use crate::stats::{Counts, Latencies, Stats};
use crate::workload::Workload;

/// Violations that are kept; one is enough to fail.
const MAX_VIOLATIONS: usize = 20;

/// The final look at the tables is tried for so long, since the cluster may still be recovering.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Clients are dealt out to them in turn and move on when one does not answer.
    pub places: Vec<Arc<dyn Place>>,
    /// How many clients.
    pub clients: u64,
    /// Seed of the mix of transactions.
    pub seed: u64,
    /// A transaction is given up when it takes longer.
    pub limit: Duration,
}

/// Why a workload did not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// No server answered.
    #[error("no server answers at any of the addresses: {error}")]
    Unreachable {
        /// What the last one said.
        error: tokio_postgres::Error,
    },
    /// A statement of the preparation or of the final check failed.
    #[error("{step} failed: {error}")]
    Statement {
        /// Which.
        step: &'static str,
        /// How.
        error: tokio_postgres::Error,
    },
    /// The history could not be written.
    #[error("cannot write the history: {error}")]
    History {
        /// Why.
        error: std::io::Error,
    },
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How long it ran.
    pub elapsed: Duration,
    /// How transactions ended.
    pub counts: Counts,
    /// How long those that committed took.
    pub latencies: Latencies,
    /// Why the others did not, by SQLSTATE.
    pub codes: BTreeMap<String, u64>,
    /// What was seen and must not be.
    pub violations: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { elapsed, counts, latencies, codes, violations } = self;
        writeln!(
            f,
            "{} operations in {:.1} s, {:.1}/s; {:.2}% succeeded, {} failed, {} of unknown outcome",
            counts.total(),
            elapsed.as_secs_f64(),
            counts.ok as f64 / elapsed.as_secs_f64(),
            counts.share(),
            counts.failed,
            counts.unknown,
        )?;
        writeln!(
            f,
            "latency: mean {:.1?}, median {:.1?}, p95 {:.1?}, p99 {:.1?}, greatest {:.1?}",
            latencies.mean(),
            latencies.quantile(0.5),
            latencies.quantile(0.95),
            latencies.quantile(0.99),
            latencies.quantile(1.0),
        )?;
        for (code, count) in codes {
            writeln!(f, "errors {code}: {count}")?;
        }
        for violation in violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        Ok(())
    }
}

async fn connect_any(places: &[Arc<dyn Place>]) -> Result<Client, WorkloadError> {
    let mut last = None;
    for place in places {
        match place.connect().await {
            Ok(client) => return Ok(client),
            Err(error) => last = Some(error),
        }
    }
    Err(WorkloadError::Unreachable { error: last.expect("there is an address") })
}

/// Makes the tables of a workload anew.
///
/// # Errors
/// No server answers, or it refuses.
pub async fn setup(workload: &dyn Workload, places: &[Arc<dyn Place>]) -> Result<(), WorkloadError> {
    let client = connect_any(places).await?;
    workload.setup(&client).await.map_err(|error| WorkloadError::Statement { step: "setup", error })
}

struct Shared {
    workload: Box<dyn Workload>,
    recorder: Option<Recorder>,
    options: Options,
    stop: AtomicBool,
    stats: Mutex<Stats>,
}

/// A workload that runs.
pub struct Running {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    began: Instant,
}

/// Starts the clients. The tables are there ([`setup`]).
///
/// # Panics
/// Without addresses.
pub fn start(workload: Box<dyn Workload>, options: Options, recorder: Option<Recorder>) -> Running {
    assert!(!options.places.is_empty(), "a workload needs an address");
    let stats = Mutex::new(Stats::default());
    let shared = Arc::new(Shared { workload, recorder, options, stop: AtomicBool::new(false), stats });
    // The clients end when `stop` is set; `Running::finish` sets it and waits for them.
    let clients = (0..shared.options.clients).map(|number| tokio::spawn(client(shared.clone(), number)));
    Running { clients: clients.collect(), shared, began: Instant::now() }
}

async fn client(shared: Arc<Shared>, number: u64) {
    let options = &shared.options;
    let mut rng = SmallRng::seed_from_u64(options.seed.wrapping_mul(1_000_003).wrapping_add(number));
    let mut session = Session::new(&options.places, number, options.clients, options.limit);
    while !shared.stop.load(Ordering::Relaxed) {
        if !session.ready().await {
            let mut stats = shared.stats.lock();
            stats.counts.failed += 1;
            *stats.codes.entry("connect".into()).or_default() += 1;
            continue;
        }
        let plan = shared.workload.plan(&mut rng);
        let began = Instant::now();
        let ended = session.run(shared.workload.as_ref(), &plan, shared.recorder.as_ref()).await;
        shared.workload.observe(&plan, ended.outcome);
        let mut stats = shared.stats.lock();
        match ended.outcome {
            Outcome::Ok => {
                stats.counts.ok += 1;
                stats.all.add(began.elapsed());
                stats.window.add(began.elapsed());
            }
            Outcome::Failed => stats.counts.failed += 1,
            Outcome::Unknown => stats.counts.unknown += 1,
        }
        if let Some(failure) = ended.failure {
            *stats.codes.entry(failure.code).or_default() += 1;
        }
        if let Some(wrong) = ended.answers.and_then(|a| a.wrong)
            && stats.violations.len() < MAX_VIOLATIONS
        {
            stats.violations.push(wrong);
        }
    }
}

impl Running {
    /// How many transactions have ended how.
    pub fn counts(&self) -> Counts {
        self.shared.stats.lock().counts
    }

    /// One line about the time since `before`, which becomes now.
    pub fn progress(&self, before: &mut Counts) -> String {
        let mut stats = self.shared.stats.lock();
        let counts = stats.counts.since(before);
        let window = std::mem::take(&mut stats.window);
        *before = stats.counts;
        drop(stats);
        format!(
            "{:6.1} s  {:6} ok  {:5} failed  {:4} unknown  {:6.2}%  p50 {:.1?}  p99 {:.1?}",
            self.began.elapsed().as_secs_f64(),
            counts.ok,
            counts.failed,
            counts.unknown,
            counts.share(),
            window.quantile(0.5),
            window.quantile(0.99),
        )
    }

    /// Ends the clients, looks at the tables and sums up.
    ///
    /// # Errors
    /// The final look was not possible, or the history could not be written.
    pub async fn finish(self) -> Result<Summary, WorkloadError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            if let Err(error) = client.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        let elapsed = self.began.elapsed();
        if let Some(recorder) = &self.shared.recorder {
            recorder.finish().map_err(|error| WorkloadError::History { error })?;
        }
        let last = final_check(&self.shared).await?;
        let mut stats = self.shared.stats.lock();
        let Stats { counts, all, codes, violations, .. } = std::mem::take(&mut *stats);
        let violations = violations.into_iter().chain(last).collect();
        Ok(Summary { elapsed, counts, latencies: all, codes, violations })
    }
}

async fn final_check(shared: &Shared) -> Result<Vec<String>, WorkloadError> {
    let began = Instant::now();
    loop {
        let attempt = async {
            let client = connect_any(&shared.options.places).await?;
            let checked = shared.workload.check(&client).await;
            checked.map_err(|error| WorkloadError::Statement { step: "the final check", error })
        };
        match attempt.await {
            Err(error) if began.elapsed() > CHECK_PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Ok(wrong) => return Ok(wrong),
        }
    }
}
