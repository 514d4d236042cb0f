//! One run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_history::{History, check};
use meridian_types::{GroupId, NodeId};
use meridian_workload::{Counts, Options as WorkloadOptions, Place, Recorder, Summary, by_name};
use parking_lot::Mutex;
use rand::Rng;
use tokio::task::JoinHandle;

use crate::faults::Faults;
use crate::operator::{Done, operate};
use crate::place::NodePlace;
use crate::world::{World, stream};

/// Virtual milliseconds within which a new cluster has to serve, and a healed one to settle.
const PATIENCE_MS: u64 = 120_000;

/// A client gives a transaction up after this long.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes of stack: sessions plan and execute on the thread of the run.
const STACK: usize = 256 << 20;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes; `None` for what the seed chooses.
    pub nodes: Option<u32>,
    /// Virtual time with faults.
    pub time: Duration,
    /// The workload's name; `None` for one that the seed chooses.
    pub workload: Option<&'static str>,
    /// How many clients.
    pub clients: u64,
    /// The node that all clients are at; `None` for all nodes.
    pub at: Option<NodeId>,
    /// Whether anything goes wrong, or is operated on.
    pub faults: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            nodes: None,
            time: Duration::from_secs(60),
            workload: None,
            clients: 5,
            at: None,
            faults: true,
        }
    }
}

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Report {
    /// The workload's name.
    pub workload: &'static str,
    /// Virtual time, to the end of all checks.
    pub time: Duration,
    /// How transactions ended.
    pub counts: Counts,
    /// Why the others failed, by SQLSTATE.
    pub codes: BTreeMap<String, u64>,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// Statements of the operator: done, and failed.
    pub operated: (u64, u64),
    /// Messages between nodes.
    pub messages: u64,
    /// Snapshots installed, and those of them that went on after a connection broke.
    pub snapshots: (u64, u64),
    /// Who led which shard when the clients were done.
    pub leaders: BTreeMap<GroupId, NodeId>,
    /// The clients' history, as they recorded it.
    pub history: Vec<u8>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            workload,
            time,
            counts,
            codes,
            faults,
            operated: (done, failed),
            messages,
            snapshots,
            ..
        } = self;
        write!(
            f,
            "{workload}: {:.1} s, {} ok, {} failed, {} unknown, {messages} messages, snapshots {snapshots:?}, faults {faults:?}, operator {done} done {failed} not, {codes:?}",
            time.as_secs_f64(),
            counts.ok,
            counts.failed,
            counts.unknown,
        )
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Of the run.
    pub seed: u64,
    /// What was seen and must not be.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// Where a history goes.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs one seed, on a thread with the stack that sessions want.
///
/// # Errors
/// A promise was broken.
///
/// # Panics
/// As the code that is run does, where an invariant is broken.
pub fn run(seed: u64, options: &Options) -> Result<Report, Violation> {
    let options = options.clone();
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(STACK);
    let run = thread.spawn(move || {
        let mut run = Run::new(seed, &options);
        run.go(&options).map_err(|what| format!("{what}\n{}", run.world.describe()))
    });
    match run.expect("the operating system has a thread").join() {
        Ok(done) => done.map_err(|what| Violation { seed, what }),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

struct Run {
    seed: u64,
    world: World,
    places: Vec<Arc<dyn Place>>,
}

impl Run {
    fn new(seed: u64, options: &Options) -> Run {
        let mut rng = stream(seed, 1);
        let chosen = [3, 3, 4, 5][rng.random_range(0..4)];
        let world = World::new(options.nodes.unwrap_or(chosen), &mut rng);
        let place = |node: NodeId| Arc::new(NodePlace { node, faces: world.faces.clone() }) as Arc<dyn Place>;
        let places = world.node_ids().into_iter().map(place).collect();
        Run { seed, world, places }
    }

    /// Lets time go on until a client's task is done.
    fn until<T>(&mut self, what: &str, task: JoinHandle<T>) -> Result<T, String> {
        let limit = self.world.now() + PATIENCE_MS;
        while !task.is_finished() {
            if self.world.now() > limit {
                return Err(format!("{what} takes more than {} s", PATIENCE_MS / 1_000));
            }
            self.world.step();
        }
        match self.world.clients.block_on(task) {
            Ok(done) => Ok(done),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn go(&mut self, options: &Options) -> Result<Report, String> {
        let names = meridian_workload::NAMES;
        let name =
            options.workload.unwrap_or_else(|| names[stream(self.seed, 2).random_range(0..names.len())]);
        let places = self.places.clone();
        let setup = self.world.clients.spawn(async move {
            let workload = by_name(name).expect("it is one of the names");
            while let Err(error) = meridian_workload::setup(&*workload, &places).await {
                tracing::debug!(%error, "not yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            workload
        });
        let workload = self.until("to set up", setup)?;
        let buffer = Buffer::default();
        let recorder = Recorder::new(Box::new(buffer.clone()));
        let nodes = self.world.node_ids();
        let is_used = |node: &NodeId| options.at.is_none_or(|at| at == *node);
        let used = nodes.iter().zip(&self.places).filter(|(node, _)| is_used(node));
        let workload_options = WorkloadOptions {
            places: used.map(|(_, place)| place.clone()).collect(),
            clients: options.clients,
            seed: self.seed,
            limit: LIMIT,
        };
        let done = Arc::new(Done::default());
        let running = {
            let _entered = self.world.clients.enter();
            meridian_workload::start(workload, workload_options, Some(recorder))
        };
        let mut faults = Faults::new(stream(self.seed, 3));
        let mut operator = None;
        if options.faults {
            let work = operate(self.places.clone(), stream(self.seed, 4), done.clone());
            operator = Some(self.world.clients.spawn(work));
        }
        let end = self.world.now() + options.time.as_millis() as u64;
        while self.world.now() < end {
            if options.faults {
                let now = self.world.now();
                faults.tick(&mut self.world, now);
            }
            self.world.step();
        }
        let leaders = self.world.leaders();
        faults.heal_all(&mut self.world);
        done.stop.store(true, Ordering::Relaxed);
        if let Some(operator) = operator {
            self.until("the operator", operator)?;
        }
        let finished = self.world.clients.spawn(running.finish());
        let summary =
            self.until("the workload's end", finished)?.map_err(|error| format!("{error}: {error:?}"))?;
        let tables = self.world.clients.spawn(check_tables(self.places.clone()));
        self.until("the check of the tables", tables)??;
        let report = self.judge(name, summary, &buffer, &faults, &done)?;
        Ok(Report { leaders, ..report })
    }

    fn judge(
        &self,
        name: &'static str,
        summary: Summary,
        buffer: &Buffer,
        faults: &Faults,
        done: &Done,
    ) -> Result<Report, String> {
        if let Some(violation) = summary.violations.first() {
            return Err(format!("{name}: {violation}"));
        }
        let history = buffer.0.lock().clone();
        let parsed = History::parse(&history).map_err(|error| error.to_string())?;
        let report = check(&parsed).map_err(|error| error.to_string())?;
        if !report.is_valid() {
            return Err(format!("{name}: {}\n{}", report.summary(), report.explanation()));
        }
        Ok(Report {
            workload: name,
            time: Duration::from_millis(self.world.now()),
            counts: summary.counts,
            codes: summary.codes,
            faults: faults.counts.clone(),
            operated: (done.statements.load(Ordering::Relaxed), done.failed.load(Ordering::Relaxed)),
            messages: self.world.network.delivered(),
            snapshots: self.world.snapshots(),
            leaders: BTreeMap::new(),
            history,
        })
    }
}

/// Indexes and constraints against tables, once the cluster can say so.
async fn check_tables(places: Vec<Arc<dyn Place>>) -> Result<(), String> {
    let mut turn = 0;
    loop {
        turn += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Ok(client) = places[turn % places.len()].connect().await else { continue };
        let tables =
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        let Ok(tables) = client.query(tables, &[]).await else { continue };
        let mut checked = 0;
        for table in &tables {
            let name: &str = table.get(0);
            match client.batch_execute(&format!("SELECT meridian.check_table('{name}')")).await {
                Ok(()) => checked += 1,
                Err(error) => match error.as_db_error() {
                    Some(wrong) if wrong.code().code().starts_with("XX") => {
                        return Err(wrong.message().to_owned());
                    }
                    _ => break,
                },
            }
        }
        if checked == tables.len() {
            return Ok(());
        }
    }
}
