//! Histories known to be wrong, one per anomaly, and histories known to be right.
//!
//! A history is written as lines of transactions; those on one line run at the same time, and all end before the next
//! line begins. `!` marks a transaction that did not happen, `?` one of unknown outcome.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use meridian_history::{History, check};

fn edn(script: &str) -> String {
    let mut text = String::new();
    let mut process = 0;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let transactions: Vec<&str> = line.split('|').map(str::trim).collect();
        for (i, transaction) in transactions.iter().enumerate() {
            let operations = transaction.trim_start_matches(['!', '?']);
            let p = process + i;
            writeln!(text, "{{:type :invoke :process {p} :value [{operations}]}}").unwrap();
        }
        for (i, transaction) in transactions.iter().enumerate() {
            let (kind, operations) = match transaction.split_at(1) {
                ("!", rest) => ("fail", rest),
                ("?", rest) => ("info", rest),
                _ => ("ok", *transaction),
            };
            let p = process + i;
            writeln!(text, "{{:type :{kind} :process {p} :value [{operations}]}}").unwrap();
        }
        process += transactions.len();
    }
    text
}

/// The names of what is wrong, without repetition, and the explanation.
fn found(script: &str) -> (Vec<String>, String) {
    let history = History::parse(edn(script).as_bytes()).unwrap();
    let report = check(&history).unwrap();
    let mut names: Vec<String> = report.anomalies.iter().map(|a| a.name()).collect();
    names.sort();
    names.dedup();
    (names, report.explanation())
}

const BAD: &[(&str, &str, &[&str])] = &[
    (
        "G0: two transactions append in opposite orders",
        "[:append x 1] [:append y 1] | [:append x 2] [:append y 2]
         [:r x [1 2]] [:r y [2 1]]",
        &["G0"],
    ),
    (
        "G0 in time: an append goes before one that had ended",
        "[:append x 1]
         [:append x 2]
         [:r x [2 1]]",
        &["G0-realtime"],
    ),
    ("G1a: an append that was rolled back is read", "![:append x 1] | [:r x [1]]", &["G1a"]),
    ("G1a of a register", "![:w x 1] | [:r x 1]", &["G1a"]),
    (
        "G1b: a list is read in the middle of a transaction",
        "[:append x 1] [:append x 2] | [:r x [1]]
         [:r x [1 2]]",
        &["G-single", "G1b"],
    ),
    ("G1b of a register", "[:w x 1] [:w x 2] | [:r x 1]", &["G1b"]),
    (
        "G1c: two transactions read each other's appends",
        "[:append x 1] [:r y [1]] | [:append y 1] [:r x [1]]",
        &["G1c"],
    ),
    ("G1c of registers", "[:w x 1] [:r y 1] | [:w y 1] [:r x 1]", &["G1c"]),
    (
        "G1c in time: a read sees what is appended only after it has ended",
        "[:r x [1]]
         [:append x 1]",
        &["G1c-realtime"],
    ),
    (
        "G-single: a read skew over two lists",
        "[:append x 1] [:append y 1] | [:r x nil] [:r y [1]]",
        &["G-single"],
    ),
    ("G-single of registers", "[:w x 1] [:w y 1] | [:r x nil] [:r y 1]", &["G-single"]),
    (
        "G-single in time: a stale read",
        "[:append x 1]
         [:r x nil] | [:append x 2]
         [:r x [1 2]]",
        &["G-single-realtime"],
    ),
    (
        "G-single in time: a register goes back",
        "[:w x 1]
         [:w x 2]
         [:r x 1]",
        &["G-single-realtime"],
    ),
    (
        "G-single in time: a register that was read goes back",
        "[:w x 1] | [:w x 2]
         [:r x 1]
         [:r x 2]
         [:r x 1]",
        &["G-single-realtime"],
    ),
    (
        "G2-item: write skew",
        "[:r x nil] [:append y 1] | [:r y nil] [:append x 1]
         [:r x [1]] [:r y [1]]",
        &["G2-item"],
    ),
    ("G2-item of registers", "[:r x nil] [:w y 1] | [:r y nil] [:w x 1]", &["G2-item"]),
    (
        "long fork: two readers see two writes in opposite orders",
        "[:append x 1] | [:append y 1] | [:r x [1]] [:r y nil] | [:r x nil] [:r y [1]]",
        &["G-nonadjacent"],
    ),
    (
        "long fork of registers",
        "[:w x 1] | [:w y 1] | [:r x 1] [:r y nil] | [:r x nil] [:r y 1]",
        &["G-nonadjacent"],
    ),
    (
        "lost update: both saw nothing and both appended",
        "[:r x nil] [:append x 1] | [:r x nil] [:append x 2]
         [:r x [1 2]]",
        &["G-single", "lost-update"],
    ),
    (
        "lost update of a register",
        "[:w x 1]
         [:r x 1] [:w x 2] | [:r x 1] [:w x 3]",
        &["G2-item", "lost-update"],
    ),
    (
        "lost write: an acknowledged append is gone",
        "[:append x 1]
         [:append x 2]
         [:r x [1]]",
        &["G-single-realtime", "lost-write"],
    ),
    (
        "lost write: nobody sees the only append",
        "[:append x 1]
         [:r x nil]",
        &["G-single-realtime", "lost-write"],
    ),
    (
        "duplicate write: an append was applied twice",
        "[:append x 1] | [:append x 2]
         [:r x [1 2 1]]",
        &["duplicate-element"],
    ),
    (
        "incompatible orders: two reads disagree",
        "[:append x 1] | [:append x 2]
         [:r x [1 2]] | [:r x [2 1]]",
        &["incompatible-order"],
    ),
    ("unwritten: a value out of nowhere", "[:r x [7]]", &["unwritten-read"]),
    ("unwritten value of a register", "[:r x 7]", &["unwritten-read"]),
    ("internal: a transaction does not see its own append", "[:append x 1] [:r x nil]", &["internal"]),
    ("internal: two reads of one transaction differ", "[:append x 1] | [:r x nil] [:r x [1]]", &["internal"]),
    ("internal: a register forgets its transaction's write", "[:w x 1] [:r x 2] | [:w x 2]", &["internal"]),
    (
        "an unknown outcome that was seen has happened, so that it must be seen afterwards",
        "?[:append x 1] [:append y 1] | [:r x [1]]
         [:r y nil]
         [:r x [1]]",
        &["G-single-realtime"],
    ),
    (
        "a transaction of unknown outcome can't have happened before it began",
        "[:append x 1]
         ?[:append x 2]
         [:r x [2 1]]",
        &["G0-realtime"],
    ),
    (
        "a cycle over three transactions and three kinds of edges",
        "[:append x 1] [:append y 1] | [:r x [1]] [:append z 1] | [:r z [1]] [:r y nil]
         [:r y [1]]",
        &["G-single"],
    ),
    (
        "G2 in time: write skew through a transaction that had ended",
        "[:r x nil] [:append w 1] | [:append y 1]
         [:r w nil] [:append z 1] | [:append x 1] | [:r z nil]
         [:r x [1]] [:r w [1]] [:r z [1]] [:r y [1]]",
        &["G-single-realtime"],
    ),
];

const GOOD: &[(&str, &str)] = &[
    ("nothing", ""),
    ("one after the other", "[:append x 1]\n[:r x [1]] [:append x 2]\n[:r x [1 2]]"),
    ("at once, in some order", "[:append x 1] | [:append x 2] | [:r x nil] | [:r x [2]]\n[:r x [2 1]]"),
    ("aborted and not seen", "![:append x 1] | [:append x 2]\n[:r x [2]]"),
    ("unknown and not seen", "?[:append x 1] | [:append x 2]\n[:r x [2]]\n[:r x [2]]"),
    ("unknown and seen late", "?[:append x 1] | [:append x 2]\n[:r x [2]]\n[:r x [2 1]]"),
    ("unknown and seen between", "?[:w x 1]\n[:w x 2]\n[:r x 2]\n[:r x 1]\n[:w x 3]\n[:r x 3]"),
    ("own appends", "[:append x 1]\n[:r x [1]] [:append x 2] [:r x [1 2]] [:append x 3] [:r x [1 2 3]]"),
    ("an append at the end that nobody read", "[:r x nil] [:append x 1]"),
    (
        "many appends that nobody read",
        "[:r x nil] [:append x 1] | [:append x 2] | [:append x 3] | [:append x 4]",
    ),
    ("registers one after the other", "[:w x 1]\n[:r x 1] [:w x 2]\n[:r x 2] [:r y nil]\n[:w y 1]\n[:r y 1]"),
    ("registers at once", "[:w x 1] | [:w x 2] | [:r x nil] | [:r x 1] | [:r x 2]\n[:r x 1]"),
    ("a register written twice by one", "[:w x 1] [:w x 2] | [:r x nil]\n[:r x 2]"),
    ("a register read back", "[:w x 1] [:r x 1] [:w x 2] [:r x 2]\n[:r x 2]"),
];

#[test]
fn bad_histories_are_found_and_named() {
    assert!(BAD.len() >= 20);
    for (title, script, expected) in BAD {
        let (names, explanation) = found(script);
        assert_eq!(names, *expected, "{title}\n{explanation}");
        for name in *expected {
            assert!(explanation.contains(&format!("{name}: ")), "{title}: not explained\n{explanation}");
        }
    }
}

#[test]
fn good_histories_pass() {
    for (title, script) in GOOD {
        let (names, explanation) = found(script);
        assert!(names.is_empty(), "{title}\n{explanation}");
    }
}

/// What the checker of another author says.
fn independent(script: &str) -> adya::Report {
    // An answered read of a list is a list, of a register a value.
    let workload = match script.contains(":append ") || script.contains("[:r x [") {
        true => adya::Workload::ListAppend,
        false => adya::Workload::RwRegister,
    };
    let options = adya::Opts { linearizable_keys: true, ..adya::Opts::default() };
    adya::check(&adya::History::from_edn(&edn(script)).unwrap(), workload, &options)
}

/// Bad histories that the other checker does not call bad: nobody wrote anything, so that it has no graph to look at.
const ONLY_OURS: &[&str] = &["unwritten: a value out of nowhere", "unwritten value of a register"];

#[test]
fn an_independent_checker_agrees() {
    for (title, script) in GOOD {
        let report = independent(script);
        assert_ne!(report.valid, adya::Valid::False, "{title}: {:?}", report.anomaly_types);
    }
    let passed: Vec<&str> = BAD
        .iter()
        .filter(|(_, script, _)| independent(script).valid != adya::Valid::False)
        .map(|(title, ..)| *title)
        .collect();
    assert_eq!(passed, ONLY_OURS);
}

#[test]
fn a_cycle_is_explained_step_by_step() {
    let (_, explanation) = found("[:append x 1] [:append y 1] | [:r x nil] [:r y [1]]");
    let expected = "\
G-single: a cycle of 2
  T1 (line 4, committed, events 1 to 3): [:r x nil] [:r y [1]]
  T0 (line 3, committed, events 0 to 2): [:append x 1] [:append y 1]
  T1 -> T0: rw, T1 read nil from x, without 1, which T0 wrote
  T0 -> T1: wr, T1 read [1] from y, which T0 wrote
";
    assert_eq!(explanation, expected);
}

#[test]
fn what_cannot_be_checked_is_refused() {
    for (script, message) in [
        ("[:append x 1] | [:append x 1]", "line 4: 1 was given to key x before"),
        ("[:append x 1]\n[:w x 2]", "key x is used as a list and as a register"),
    ] {
        let history = History::parse(edn(script).as_bytes()).unwrap();
        assert_eq!(check(&history).unwrap_err().to_string(), message);
    }
}
