//! Golden traces of the lock table: each file of `tests/scripts` is a scenario, a command per line, its output below
//! `----`. `UPDATE=1` rewrites the outputs; the diff is reviewed.
//!
//! Commands: `acquire TICKET TXN MODE TARGET... [nowait|prepare]`, `release TXN`, `pin TXN`, `cancel TICKET`, `locks`.
//! A transaction is a number, which is its age (smaller is older). `k` is a point, `a..m` a span, `a..` one without end.

use std::fmt::Write as _;

use meridian_locks::{Acquired, Discipline, Event, LockTable, Mode, Need, Target, Ticket};
use meridian_types::{Key, NodeId, Span, Timestamp, TxnId};

fn txn(word: &str) -> TxnId {
    let age = word.trim_start_matches('t').parse().expect("a transaction is a number");
    TxnId { first_start: Timestamp::from_nanos(age), node: NodeId::new(1), seq: 1 }
}

fn key(word: &str) -> Key {
    Key::copy_from(word.as_bytes())
}

fn target(word: &str) -> Target {
    match word.split_once("..") {
        None => Target::Point(key(word)),
        Some((start, "")) => Target::Span(Span::new(key(start), None)),
        Some((start, end)) => Target::Span(Span::new(key(start), Some(key(end)))),
    }
}

fn name(txn: TxnId) -> String {
    format!("t{}", txn.first_start.as_nanos())
}

fn show(events: &mut Vec<Event>, out: &mut String) {
    for event in events.drain(..) {
        match event {
            Event::Granted(ticket) => writeln!(out, "  {} granted", ticket.0),
            Event::WouldDeadlock(ticket) => writeln!(out, "  {} would deadlock", ticket.0),
            Event::Wounded { txn, by, tickets } => {
                let tickets: Vec<u64> = tickets.iter().map(|t| t.0).collect();
                writeln!(out, "  {} wounded by {}, tickets {tickets:?}", name(txn), name(by))
            }
        }
        .expect("strings take everything");
    }
}

fn run(table: &mut LockTable, line: &str, out: &mut String) {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let mut events = Vec::new();
    match words.remove(0) {
        "acquire" => {
            let discipline = match *words.last().expect("an acquire has words") {
                "nowait" => Discipline::NoWait,
                "prepare" => Discipline::Prepare,
                _ => Discipline::WoundWait,
            };
            if discipline != Discipline::WoundWait {
                words.pop();
            }
            let mode = if words[2] == "x" { Mode::Exclusive } else { Mode::Shared };
            let needs = words[3..].iter().map(|w| Need { target: target(w), mode }).collect();
            let ticket = Ticket(words[0].parse().expect("a ticket is a number"));
            let answer = table.acquire(ticket, txn(words[1]), needs, discipline, &mut events);
            let text = match answer {
                Acquired::Granted => "granted",
                Acquired::Waiting => "waits",
                Acquired::WouldBlock => "would block",
                Acquired::WouldDeadlock => "would deadlock",
            };
            writeln!(out, "{text}").expect("strings take everything");
        }
        "release" => {
            table.release(txn(words[0]), &mut events);
        }
        "pin" => table.pin(txn(words[0])),
        "cancel" => table.cancel(Ticket(words[0].parse().expect("a ticket is a number")), &mut events),
        "locks" => {
            for view in table.views() {
                let end =
                    view.span.end.as_ref().map_or("".into(), |e| e.as_bytes().escape_ascii().to_string());
                let start = view.span.start.as_bytes().escape_ascii();
                let how = if view.granted { "holds" } else { "waits for" };
                let mode = if view.mode == Mode::Exclusive { "x" } else { "s" };
                writeln!(out, "{} {how} {mode} {start}..{end}", name(view.txn))
                    .expect("strings take everything");
            }
        }
        other => panic!("unknown command {other}"),
    }
    show(&mut events, out);
    if out.is_empty() {
        out.push_str("ok\n");
    }
    table.check_invariants();
}

fn replay(script: &str) -> String {
    let mut table = LockTable::new();
    let mut result = String::new();
    let mut in_output = false;
    for line in script.lines() {
        if line.is_empty() {
            in_output = false;
        }
        if line == "----" {
            in_output = true;
        }
        if in_output {
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            writeln!(result, "{line}").expect("strings take everything");
            continue;
        }
        let mut out = String::new();
        run(&mut table, line, &mut out);
        write!(result, "{line}\n----\n{out}").expect("strings take everything");
    }
    result
}

#[test]
fn traces() {
    let folder = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"))
        .join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("the scripts are there").flatten().collect();
    files.sort_by_key(|f| f.path());
    assert!(!files.is_empty(), "no scripts found");
    for file in files {
        let script = std::fs::read_to_string(file.path()).expect("a script is readable");
        let actual = replay(&script);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file.path(), &actual).expect("a script is writable");
        } else {
            assert_eq!(script, actual, "{:?} differs; UPDATE=1 rewrites it", file.path());
        }
    }
}
