//! What kind of world a run has: which faults may happen, and what a seed makes of the rest.

use std::fmt;
use std::str::FromStr;

use meridian_types::{Duration, SeededRng};

use crate::ClockConfig;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Fault {
    /// Messages are lost.
    Loss,
    /// Messages arrive twice.
    Duplication,
    /// Messages are overtaken, by up to seconds.
    Reordering,
    /// The nodes fall into two sides that do not hear each other.
    Partition,
    /// One direction of some links is cut.
    OneWay,
    /// Two sides that only one node in the middle can talk to.
    Bridge,
    /// A node dies, and loses what it had not synced.
    Crash,
    /// A minority of the time masters lies, drifts, stalls or stops; oscillators drift within their bound.
    Clocks,
    /// Oscillators run far too fast or slow, machines are suspended together with theirs; a majority of the masters lies.
    ClocksBeyond,
    /// A process stands still for a while, as under SIGSTOP.
    Pause,
    /// Leaders hand over.
    HandOver,
    /// Shards split.
    Split,
    /// Logs are cut short, so that whoever was away needs a snapshot.
    Snapshot,
    /// Gateways vanish in the middle of a transaction.
    Vanish,
    /// Replicas are added, promoted, demoted and removed.
    Members,
    /// The garbage-collection horizon rises, and old versions go.
    Collect,
    /// Some of the voting members are witnesses.
    Witness,
    /// The schema changes: an index comes and goes.
    Schema,
    /// The connections of a node break: what it has just sent is lost, and what it sends next arrives.
    Reset,
}

impl Fault {
    /// All of them, with the names that the command line knows.
    pub const ALL: [(Fault, &'static str); 19] = [
        (Fault::Loss, "loss"),
        (Fault::Duplication, "duplication"),
        (Fault::Reordering, "reordering"),
        (Fault::Partition, "partition"),
        (Fault::OneWay, "one-way"),
        (Fault::Bridge, "bridge"),
        (Fault::Crash, "crash"),
        (Fault::Clocks, "clocks"),
        (Fault::ClocksBeyond, "clocks-beyond"),
        (Fault::Pause, "pause"),
        (Fault::HandOver, "hand-over"),
        (Fault::Split, "split"),
        (Fault::Snapshot, "snapshot"),
        (Fault::Vanish, "vanish"),
        (Fault::Members, "members"),
        (Fault::Collect, "collect"),
        (Fault::Witness, "witness"),
        (Fault::Schema, "schema"),
        (Fault::Reset, "reset"),
    ];
}

/// A set of kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults(u32);

impl Faults {
    /// None of them.
    pub const NONE: Faults = Faults(0);

    /// Every one.
    pub fn all() -> Self {
        Fault::ALL.iter().fold(Faults::NONE, |set, (fault, _)| set.with(*fault))
    }

    /// This one, too.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Faults(self.0 | 1 << fault as u8)
    }

    /// Without this one.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Faults(self.0 & !(1 << fault as u8))
    }

    /// True when this kind may happen.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u8) != 0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Faults::all() {
            return f.write_str("all");
        }
        if *self == Faults::NONE {
            return f.write_str("none");
        }
        let names = Fault::ALL.iter().filter(|(fault, _)| self.has(*fault)).map(|(_, name)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

/// No fault has this name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownFault {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Fault::ALL.iter().map(|(_, name)| *name).collect();
        write!(f, "no fault is named \"{}\"; there are all, none, and {}", self.name, names.join(", "))
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let mut set = Faults::NONE;
        for name in text.split(',').map(str::trim) {
            match (name, Fault::ALL.iter().find(|(_, known)| *known == name)) {
                ("all", _) => set = Faults::all(),
                ("none", _) => {}
                (_, Some((fault, _))) => set = set.with(*fault),
                (_, None) => return Err(UnknownFault { name: name.to_owned() }),
            }
        }
        Ok(set)
    }
}

/// How many gateways do how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Gateways, each with one transaction at a time.
    pub clients: usize,
    /// Keys, spread over the shards; at most 100.
    pub keys: u64,
    /// A gateway rests for up to this long between two transactions.
    pub pause: Duration,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What may happen.
    pub faults: Faults,
    /// The faulty part of the run ends after this many steps of the scheduler, or after `time`.
    pub steps: u64,
    /// See there.
    pub time: Duration,
    /// `None` leaves it to the seed.
    pub load: Option<Load>,
    /// Keep the whole trace, not only its digest.
    pub record: bool,
    /// The bug in every node.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<super::Planted>,
}

impl Default for Options {
    /// Every fault, for half a minute of virtual time.
    fn default() -> Self {
        Options {
            faults: Faults::all(),
            steps: u64::MAX,
            time: Duration::from_secs(30),
            load: None,
            record: false,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

/// Which clocks the nodes of a run have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clocks {
    Erratic(ClockConfig),
    Disciplined,
}

/// What a seed makes of [`Options`]: runs differ in what is slow and in what fails, so that one run is full of unsynced
/// writes, another of stale messages, a third of little but crashes. Probabilities are per thousand.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) faults: Faults,
    pub(super) load: Load,
    pub(super) nodes: u32,
    pub(super) replicas: u32,
    /// How many of these are witnesses at the start.
    pub(super) witnesses: u32,
    pub(super) clocks: Clocks,
    pub(super) loss: u64,
    pub(super) duplication: u64,
    pub(super) straggling: u64,
    pub(super) delay_us: u64,
    pub(super) fsync_us: u64,
    pub(super) fault_pause_ms: u64,
    pub(super) log_retain: u64,
}

impl Weather {
    pub(super) fn new(options: &Options, rng: &mut SeededRng) -> Self {
        let mut pick = |choices: [u64; 4]| choices[rng.below(4) as usize];
        let load = Load {
            clients: pick([3, 6, 12, 24]) as usize,
            keys: pick([6, 9, 24, 60]),
            pause: Duration::from_millis(pick([4, 20, 60, 150])),
        };
        let (nodes, replicas) = [(3, 3), (5, 3), (5, 3), (5, 5)][pick([0, 1, 2, 3]) as usize];
        let outage_per_mille = if options.faults.has(Fault::Clocks) { pick([0, 2, 5, 20]) } else { 0 };
        let epsilon_max = Duration::from_micros(pick([300, 4_000, 10_000, 20_000]));
        let clocks = match pick([0, 1, 1, 1]) {
            0 => Clocks::Disciplined,
            _ => Clocks::Erratic(ClockConfig { epsilon_max, drift_ppm_max: 200, outage_per_mille }),
        };
        let (loss, duplication) = (pick([0, 5, 10, 40]), pick([0, 5, 10, 40]));
        let (straggling, retain) = (pick([0, 2, 5, 20]), pick([5, 30, 30, 300]));
        let (delay_us, fsync_us) = (pick([300, 1_000, 2_000, 15_000]), pick([200, 1_500, 1_500, 20_000]));
        let fault_pause_ms = pick([150, 400, 700, 1_500]);
        // Swarm testing: with everything on at once, some things never get far enough to go wrong.
        let mut faults = Faults::NONE;
        for (fault, _) in Fault::ALL {
            let odds = match fault {
                Fault::ClocksBeyond => 1,
                Fault::Witness => 4,
                _ => 7,
            };
            // Those that came later draw nothing where they are not wanted, so that older seeds keep their runs.
            let is_late = matches!(
                fault,
                Fault::Members | Fault::Collect | Fault::Witness | Fault::Schema | Fault::Reset
            );
            if is_late && !options.faults.has(fault) {
                continue;
            }
            if rng.chance(odds, 10) && options.faults.has(fault) {
                faults = faults.with(fault);
            }
        }
        let wanted = |fault, value| if faults.has(fault) { value } else { 0 };
        // Clocks beyond their bounds are the real ones': an erratic clock knows no bound.
        let clocks = if faults.has(Fault::ClocksBeyond) { Clocks::Disciplined } else { clocks };
        // As many as leave a voter in every quorum.
        let most = (replicas - 1) / 2;
        let witnesses = if faults.has(Fault::Witness) { 1 + rng.below(u64::from(most)) as u32 } else { 0 };
        Weather {
            faults,
            load: options.load.unwrap_or(load),
            nodes,
            replicas,
            witnesses,
            clocks,
            loss: wanted(Fault::Loss, loss),
            duplication: wanted(Fault::Duplication, duplication),
            straggling: wanted(Fault::Reordering, straggling),
            delay_us,
            fsync_us,
            fault_pause_ms,
            log_retain: if faults.has(Fault::Snapshot) { retain } else { u64::MAX },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_faults_are_written_and_read() {
        for text in ["all", "none", "crash", "loss,one-way,vanish"] {
            assert_eq!(text.parse::<Faults>().map(|f| f.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("crash, crash".parse::<Faults>(), Ok(Faults::NONE.with(Fault::Crash)));
        assert_eq!("rain".parse::<Faults>(), Err(UnknownFault { name: "rain".to_owned() }));
        assert!(!Faults::all().without(Fault::Crash).has(Fault::Crash));
    }
}
