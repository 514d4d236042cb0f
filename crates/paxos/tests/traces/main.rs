//! Golden traces: a script drives a small cluster, and everything its replicas do is written below each command.
//!
//! In `scripts/*.txt` a line that begins with `> ` is a command, one that begins with `#` a comment; the rest is the
//! trace. `UPDATE=1 cargo test -p meridian-paxos --test traces` rewrites the traces; the diff is what to review.
//!
//! Virtual time is in milliseconds; clocks are exact to one millisecond; the lease is 3 s.
#![allow(clippy::unwrap_used)]

mod render;
mod world;

use std::fmt::Write as _;
use std::path::Path;

use world::World;

/// Runs the commands of a script and returns it with the traces they give.
fn replay(script: &str) -> String {
    let mut world = World::default();
    let mut result = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(result, "{line}").unwrap();
            for traced in world.execute(command) {
                writeln!(result, "{traced}").unwrap();
            }
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(result, "{line}").unwrap();
        }
    }
    result
}

fn check(name: &str) {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/traces/scripts")
        .join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let found = replay(&expected);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).unwrap();
    } else if found != expected {
        let difference = expected.lines().zip(found.lines()).find(|(e, f)| e != f);
        panic!("the trace {name} changed; first difference: {difference:#?}\n\n{found}");
    }
}

macro_rules! traces {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        /// A script that no test names would never run.
        #[test]
        fn every_script_has_a_test() {
            let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/traces/scripts");
            for file in std::fs::read_dir(folder).unwrap() {
                let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
                assert!([$(stringify!($name)),*].contains(&name.as_str()), "{name} is in no test");
            }
        }
    };
}

traces!(
    catch_up,
    clock_unsure,
    election,
    hand_over,
    lagging_follower,
    lease_refusal,
    lost_prepare,
    membership,
    pipelining,
    recovery_with_holes,
    rejoin_without_deposing,
    removed_read_only,
    restart_abstention,
    single_voter,
    snapshot,
    storage_failed,
    witness,
);
