//! `meridian sim`: whole clusters on virtual time, one per seed, until a promise is broken.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use meridian_sim::cluster::{Faults, Options, Report, run};

/// What the command line says.
#[derive(Debug)]
pub(crate) struct SimOptions {
    pub(crate) seed: Option<u64>,
    pub(crate) count: u64,
    pub(crate) within: Option<Duration>,
    pub(crate) steps: Option<u64>,
    pub(crate) time: Duration,
    pub(crate) faults: Faults,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) quiet: bool,
}

impl SimOptions {
    fn options(&self) -> Options {
        Options {
            faults: self.faults,
            steps: self.steps.unwrap_or(u64::MAX),
            time: self.time.into(),
            record: self.trace.is_some(),
            ..Options::default()
        }
    }

    /// The command that runs one seed of these again.
    fn replay(&self, seed: u64) -> String {
        let steps = self.steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
        let time = Options::default().time != self.time.into();
        let time = if time { format!(" --time {}ms", self.time.as_millis()) } else { String::new() };
        format!("meridian sim --seed {seed}{steps}{time} --faults {}", self.faults)
    }
}

/// A seed that nobody has run before, most likely.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A short number is easier to type again; it moves on by a thousand a second.
    now.as_millis() as u64
}

/// Runs seed after seed. Status 1 as soon as one breaks a promise.
pub(crate) fn sim(wanted: &SimOptions) -> ExitCode {
    let options = wanted.options();
    let first = wanted.seed.unwrap_or_else(fresh_seed);
    let began = Instant::now();
    let mut virtual_seconds = 0.0;
    let mut seeds = 0;
    loop {
        let seed = first.wrapping_add(seeds);
        match run(seed, &options) {
            Ok(report) => {
                virtual_seconds += report.stats.time.as_nanos() as f64 / 1e9;
                if !wanted.quiet {
                    println!("{}", summary(seed, &report));
                }
                if let Err(error) = keep_trace(wanted, report.trace) {
                    eprintln!("meridian: {error}");
                    return ExitCode::FAILURE;
                }
            }
            Err(violation) => {
                println!("VIOLATION: {violation}");
                println!("replay: {}", wanted.replay(seed));
                if let Err(error) = keep_trace(wanted, violation.trace) {
                    eprintln!("meridian: {error}");
                }
                return ExitCode::FAILURE;
            }
        }
        seeds += 1;
        let is_over = wanted.within.map_or(seeds >= wanted.count, |within| began.elapsed() >= within);
        if is_over {
            break;
        }
    }
    if seeds > 1 {
        let real = began.elapsed().as_secs_f64();
        println!(
            "{seeds} seeds from {first} on, faults {}: no violation; {virtual_seconds:.0} virtual seconds in {real:.1} s, {:.0} a minute",
            wanted.faults,
            virtual_seconds / real * 60.0
        );
    }
    ExitCode::SUCCESS
}

fn summary(seed: u64, report: &Report) -> String {
    let s = &report.stats;
    format!(
        "seed {seed}: ok, {:.3} virtual s, {} steps, trace {:016x}; {} commits ({} distributed), {} aborts, {} reads; \
         {} leaders, {} crashes, {} splits, {} snapshots, {} members in, {} out, {} versions swept{}",
        s.time.as_nanos() as f64 / 1e9,
        s.events,
        s.digest,
        s.commits,
        s.distributed,
        s.aborts,
        s.strong_reads + s.snapshot_reads,
        s.leaders,
        s.crashes,
        s.splits,
        s.snapshots,
        s.members_added,
        s.members_removed,
        s.swept,
        if s.clocks_are_void { "; clocks were void" } else { "" }
    )
}

fn keep_trace(wanted: &SimOptions, trace: Option<String>) -> Result<(), String> {
    let (Some(path), Some(trace)) = (&wanted.trace, trace) else { return Ok(()) };
    std::fs::write(path, trace).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_names_what_is_not_the_default() {
        let mut wanted = SimOptions {
            seed: None,
            count: 5,
            within: None,
            steps: None,
            time: Duration::from_secs(30),
            faults: Faults::all(),
            trace: None,
            quiet: true,
        };
        assert_eq!(wanted.replay(7), "meridian sim --seed 7 --faults all");
        wanted.steps = Some(500);
        wanted.time = Duration::from_millis(2_500);
        wanted.faults = "crash,loss".parse().unwrap();
        assert_eq!(wanted.replay(8), "meridian sim --seed 8 --steps 500 --time 2500ms --faults loss,crash");
    }
}
