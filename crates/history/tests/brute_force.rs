//! The checker against trying every order: random small executions, some of them isolated and most of them not.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;

use meridian_history::{History, check};
use proptest::prelude::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Op {
    Put(usize, i64),
    Read(usize),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Ok,
    Fail,
    Info,
}

/// What a run produced: per transaction its operations, what its reads saw, its span and its end.
#[derive(Clone, Debug)]
struct Txn {
    ops: Vec<Op>,
    seen: Vec<Vec<i64>>,
    began: usize,
    ended: usize,
    end: End,
}

/// Runs transactions over shared lists without any isolation, operation by operation in the order of `schedule`, or each
/// at once at its beginning when `atomic`. Failed ones leave their writes behind when `dirty`.
fn run(
    plan: &[(Vec<Op>, End)],
    schedule: &[usize],
    atomic: bool,
    dirty: bool,
    lists: bool,
) -> (Vec<Txn>, String) {
    let mut state: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    let mut txns: Vec<Txn> = plan
        .iter()
        .map(|(ops, end)| Txn { ops: ops.clone(), seen: vec![], began: 0, ended: 0, end: *end })
        .collect();
    let mut progress = vec![0usize; plan.len()];
    let (mut text, mut clock) = (String::new(), 0);
    // Enough rounds over everything to finish what the schedule leaves.
    let rest = (0..plan.len()).flat_map(|i| std::iter::repeat_n(i, 8));
    for i in schedule.iter().map(|i| i % plan.len()).chain(rest) {
        let ops = &plan[i].0;
        let at = progress[i];
        progress[i] += 1;
        if at == 0 {
            txns[i].began = clock;
            clock += 1;
            writeln!(text, "{}", line("invoke", i, &txns[i], lists)).unwrap();
        }
        let hidden = txns[i].end == End::Fail && !dirty;
        let steps = match (atomic, at) {
            (true, 0) => 0..ops.len(),
            (true, _) => 0..0,
            (false, 0) => 0..0,
            (false, _) => (at - 1).min(ops.len())..at.min(ops.len()),
        };
        for op in &ops[steps] {
            match *op {
                Op::Put(..) if hidden => {}
                Op::Put(key, value) if lists => state.entry(key).or_default().push(value),
                Op::Put(key, value) => drop(state.insert(key, vec![value])),
                Op::Read(key) => {
                    let mut seen = state.get(&key).cloned().unwrap_or_default();
                    if hidden {
                        seen.clear();
                    }
                    txns[i].seen.push(seen);
                }
            }
        }
        if at == ops.len() + 1 {
            txns[i].ended = clock;
            clock += 1;
            let kind = match txns[i].end {
                End::Ok => "ok",
                End::Fail => "fail",
                End::Info => "info",
            };
            writeln!(text, "{}", line(kind, i, &txns[i], lists)).unwrap();
        }
    }
    (txns, text)
}

fn line(kind: &str, process: usize, txn: &Txn, lists: bool) -> String {
    let mut seen = txn.seen.iter();
    let ops: Vec<String> = txn
        .ops
        .iter()
        .map(|op| match op {
            Op::Put(key, value) => format!("[:{} {key} {value}]", if lists { "append" } else { "w" }),
            Op::Read(key) => match (seen.next().filter(|_| kind == "ok"), lists) {
                (Some(list), true) => format!("[:r {key} {list:?}]"),
                (Some(list), false) if !list.is_empty() => format!("[:r {key} {}]", list[0]),
                _ => format!("[:r {key} nil]"),
            },
        })
        .collect();
    format!("{{:type :{kind} :process {process} :value [{}]}}", ops.join(" "))
}

/// Whether some order of the transactions that happened, and of any of those that may have, explains everything.
fn explained(txns: &[Txn], lists: bool) -> bool {
    fn search(txns: &[Txn], done: u32, state: &BTreeMap<usize, Vec<i64>>, lists: bool) -> bool {
        if txns.iter().enumerate().all(|(i, t)| done >> i & 1 == 1 || t.end != End::Ok) {
            return true;
        }
        (0..txns.len()).any(|i| {
            let txn = &txns[i];
            let earlier_left = txns
                .iter()
                .enumerate()
                .any(|(j, t)| done >> j & 1 == 0 && t.end == End::Ok && t.ended < txn.began);
            if done >> i & 1 == 1 || txn.end == End::Fail || earlier_left {
                return false;
            }
            let mut state = state.clone();
            let mut seen = txn.seen.iter();
            for op in &txn.ops {
                match *op {
                    Op::Put(key, value) if lists => state.entry(key).or_default().push(value),
                    Op::Put(key, value) => drop(state.insert(key, vec![value])),
                    Op::Read(key) => {
                        let now = state.get(&key).cloned().unwrap_or_default();
                        if txn.end == End::Ok && *seen.next().unwrap() != now {
                            return false;
                        }
                    }
                }
            }
            search(txns, done | 1 << i, &state, lists)
        })
    }
    search(txns, 0, &BTreeMap::new(), lists)
}

fn plan() -> impl Strategy<Value = Vec<(Vec<Op>, End)>> {
    let op = prop_oneof![(0..2usize).prop_map(|k| Op::Put(k, 0)), (0..2usize).prop_map(Op::Read)];
    let end = prop_oneof![8 => Just(End::Ok), 1 => Just(End::Fail), 1 => Just(End::Info)];
    proptest::collection::vec((proptest::collection::vec(op, 1..4), end), 2..6).prop_map(|mut plan| {
        let mut next = 0;
        for op in plan.iter_mut().flat_map(|(ops, _)| ops) {
            if let Op::Put(_, value) = op {
                next += 1;
                *value = next;
            }
        }
        plan
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Lists that are read at the end give away every order: the checker and the search agree both ways.
    #[test]
    fn lists_agree(
        mut plan in plan(),
        mut schedule in proptest::collection::vec(0..6usize, 0..24),
        atomic in proptest::bool::weighted(0.3),
        dirty in proptest::bool::weighted(0.3),
    ) {
        let readers = plan.len();
        schedule.retain(|i| *i < readers);
        plan.push((vec![Op::Read(0), Op::Read(1)], End::Ok));
        // The last reader begins when all others have ended.
        let schedule: Vec<usize> = schedule
            .into_iter()
            .chain((0..readers).flat_map(|i| std::iter::repeat_n(i, 8)))
            .collect();
        let (txns, text) = run(&plan, &schedule, atomic, dirty, true);
        let history = History::parse(text.as_bytes()).unwrap();
        let report = check(&history).unwrap();
        prop_assert_eq!(report.is_valid(), explained(&txns, true), "{}\n{}", text, report.explanation());
        let other = adya::History::from_edn(&text).unwrap();
        let other = adya::check(&other, adya::Workload::ListAppend, &adya::Opts::default());
        prop_assert_eq!(report.is_valid(), other.valid != adya::Valid::False, "{}\n{:?}", text, other.anomaly_types);
    }

    /// What is said of registers is true; not all that is true is said.
    #[test]
    fn registers_are_never_accused_wrongly(
        plan in plan(),
        schedule in proptest::collection::vec(0..6usize, 0..24),
        atomic in proptest::bool::weighted(0.6),
        dirty in proptest::bool::weighted(0.3),
    ) {
        let (txns, text) = run(&plan, &schedule, atomic, dirty, false);
        let history = History::parse(text.as_bytes()).unwrap();
        let report = check(&history).unwrap();
        prop_assert!(report.is_valid() || !explained(&txns, false), "{}\n{}", text, report.explanation());
    }
}
