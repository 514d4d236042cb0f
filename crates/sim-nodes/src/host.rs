//! One node: what survives its crashes, and what runs between them.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use meridian_member::{Member, MemberConfig};
use meridian_node::{DiskModel, Horizons, NodeClock, NodeOptions, Oscillator, TimeMaster};
use meridian_pgwire_server::PgService;
use meridian_rpc::admin::{BootstrapRequest, NodeAddress};
use meridian_shard::ReplicaStatus;
use meridian_storage::{CrashPoint, MemoryEngine};
use meridian_types::NodeId;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admin::WorldAdmin;
use crate::network::{Arrivals, Network};
use crate::time::{Master, Way};

/// How often a clock asks its masters, and how long it does without an answer.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const PATIENCE: meridian_types::Duration = meridian_types::Duration::from_secs(2);

/// What other hosts see of a node.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) handle: Handle,
    pub(crate) member: Arc<Member>,
    /// There once the node serves SQL.
    pub(crate) service: Arc<OnceLock<PgService>>,
}

/// The faces of all nodes that run.
pub(crate) type Faces = Arc<Mutex<std::collections::BTreeMap<NodeId, Face>>>;

/// What all nodes share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) network: Arc<Network>,
    pub(crate) masters: Vec<Master>,
    pub(crate) faces: Faces,
    pub(crate) book: Vec<NodeAddress>,
}

/// A runtime whose time stands still unless it is told to go on.
pub(crate) fn still_runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O needs nothing of the system")
}

/// Lets a runtime do what it can, and moves its time by a millisecond.
pub(crate) fn step(runtime: &Runtime) {
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
}

/// A process.
struct Process {
    runtime: Runtime,
    member: Arc<Member>,
    discipline: DropGuard,
    /// Milliseconds that its clock is behind, while it stands still.
    behind: u64,
    frozen: bool,
}

/// A node.
pub(crate) struct Host {
    pub(crate) me: NodeAddress,
    surroundings: Surroundings,
    data: Arc<MemoryEngine>,
    log: Arc<MemoryEngine>,
    request: BootstrapRequest,
    rng: SmallRng,
    log_retain: u64,
    /// Those of processes that ended.
    past_snapshots: (u64, u64),
    process: Option<Process>,
}

impl Host {
    pub(crate) fn new(request: BootstrapRequest, surroundings: &Surroundings, seed: u64) -> Host {
        let is_me = |n: &&NodeAddress| n.node == request.node;
        let me = surroundings.book.iter().find(is_me).expect("a node is in the address book").clone();
        Host {
            me,
            surroundings: surroundings.clone(),
            data: Arc::default(),
            log: Arc::default(),
            request,
            rng: SmallRng::seed_from_u64(seed),
            log_retain: if seed.is_multiple_of(2) { 20 } else { NodeOptions::default().log_retain },
            past_snapshots: (0, 0),
            process: None,
        }
    }

    /// Snapshots that the node has installed, and that it has gone on sending after a connection broke.
    pub(crate) fn snapshots(&self) -> (u64, u64) {
        let (installed, resumed) = self.past_snapshots;
        let Some(process) = &self.process else { return (installed, resumed) };
        let counters = process.member.node.counters();
        (installed + counters.snapshots_installed.get(), resumed + counters.snapshots_resumed.get())
    }

    /// The state of the replicas here; none where no process runs.
    pub(crate) fn replicas(&self) -> Vec<ReplicaStatus> {
        self.process.as_ref().map_or(Vec::new(), |process| {
            let _entered = process.runtime.enter();
            process.member.node.status()
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Starts a process on what the disks hold, at `now` of the run.
    pub(crate) fn start(&mut self, now: u64) {
        assert!(self.process.is_none(), "a node runs once");
        let node = self.me.node;
        let runtime = still_runtime();
        let entered = runtime.enter();
        let masters = &self.surroundings.masters;
        let ways: Vec<Box<dyn TimeMaster>> = masters
            .iter()
            .enumerate()
            .map(|(number, master)| Box::new(Way::new(number, master, now, self.rng.random())) as Box<_>)
            .collect();
        let oscillator = Oscillator::of_runtime(
            self.rng.random_range(-1_000_000_000..1_000_000_000),
            self.rng.random_range(-80..80),
        );
        let clock = NodeClock::new(oscillator, &ways, PATIENCE);
        let discipline = clock.discipline(ways, POLL_INTERVAL);
        let member = Member::open(MemberConfig {
            me: self.me.clone(),
            data: self.data.clone(),
            log: self.log.clone(),
            horizons: Arc::new(Horizons::default()),
            clock,
            transport: self.surroundings.network.transport(node),
            nodes: Arc::new(WorldAdmin::new(node, &self.surroundings)),
            known: self.surroundings.book.clone(),
            seed: self.rng.random(),
            disk: Some(disk(self.rng.random())),
            // So few that whoever was away needs a snapshot.
            options: NodeOptions { log_retain: self.log_retain, ..NodeOptions::default() },
            shards_per_table: 2,
            sql: None,
        });
        let member = Arc::new(member.expect("memory does not fail"));
        member.create_replicas(&self.request).expect("memory does not fail");
        let first = self.request.nodes.iter().map(|n| n.node).collect();
        let service = Arc::new(OnceLock::new());
        let face =
            Face { handle: runtime.handle().clone(), member: member.clone(), service: service.clone() };
        self.surroundings.faces.lock().insert(node, face);
        let serving = member.clone();
        runtime.spawn(async move {
            let shutdown = CancellationToken::new();
            let sessions = serving.serve(Some(first), &shutdown).await.expect("nobody decommissions it");
            let served = service.set(PgService::new(sessions, shutdown.clone()));
            assert!(served.is_ok(), "SQL is served once");
            // Nobody shuts a node down here: it crashes.
            shutdown.cancelled().await;
        });
        drop(entered);
        self.process = Some(Process { runtime, member, discipline, behind: 0, frozen: false });
    }

    /// Ends the process at once. Of what the data engine had not synced a part survives.
    pub(crate) fn crash(&mut self) {
        let snapshots = self.snapshots();
        let Some(process) = self.process.take() else { return };
        self.past_snapshots = snapshots;
        self.surroundings.faces.lock().remove(&self.me.node);
        let Process { runtime, member, discipline, .. } = process;
        let handle = runtime.handle().clone();
        // What is dropped may look for its runtime.
        let entered = handle.enter();
        member.node.stop();
        drop(runtime);
        drop((member, discipline));
        drop(entered);
        let survives = match self.rng.random_range(0..3) {
            0 => 0,
            1 => self.rng.random_range(0..=self.data.buffered_batches()),
            _ => usize::MAX,
        };
        self.data = Arc::new(self.data.crash(CrashPoint { surviving_batches: survives }));
        self.log = Arc::new(self.log.crash(CrashPoint::NOTHING_BUFFERED));
    }

    /// Lets it stand still, as a process that is stopped or a machine that is suspended with its clock going on.
    pub(crate) fn freeze(&mut self) {
        if let Some(process) = &mut self.process {
            process.frozen = true;
            self.surroundings.network.freeze(self.me.node, true);
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self) {
        if let Some(process) = &mut self.process {
            process.frozen = false;
            self.surroundings.network.freeze(self.me.node, false);
        }
    }

    /// One millisecond, with what arrives at its beginning.
    pub(crate) fn step(&mut self, arrivals: Option<Arrivals>) {
        let Some(process) = &mut self.process else { return };
        if process.frozen {
            process.behind += 1;
            return;
        }
        if process.behind > 0 {
            // It wakes up at once at the present time.
            let behind = Duration::from_millis(process.behind);
            process.runtime.block_on(async { tokio::time::advance(behind).await });
            process.behind = 0;
        }
        let handler = self.surroundings.network.handler(self.me.node);
        if let (Some(arrivals), Some(handler)) = (arrivals, handler) {
            let _entered = process.runtime.enter();
            for peer in arrivals.lost {
                handler.disconnected(peer);
            }
            for (from, messages) in arrivals.messages {
                handler.receive(from, messages);
            }
        }
        step(&process.runtime);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A disk that mostly takes no time that counts, and now and then long.
fn disk(seed: u64) -> DiskModel {
    let rng = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
    Arc::new(move || {
        let ms = {
            let mut rng = rng.lock();
            if rng.random_ratio(1, 200) { rng.random_range(10..200) } else { rng.random_range(0..3) }
        };
        Box::pin(async move {
            if ms > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        })
    })
}

/// Where clients of the simulation seem to come from.
pub(crate) fn client_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000))
}
