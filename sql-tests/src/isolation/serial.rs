//! Whether a serial order explains what was seen.

use std::fmt::Write;

use super::run::{Answer, Bench, Event, Report};

/// Serial orders that are tried, the order of commits first, before an interleaving counts as wrong.
const ORDERS_MAX: usize = 500;

/// Whether an interleaving's outcome is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A serial order of the committed transactions answers the same and leaves the same.
    Serializable,
    /// It asks for what no serial order answers.
    NotJudged,
    /// None does; or the interleaving did not end.
    Wrong(String),
}

/// A transaction: consecutive steps of a session.
#[derive(Clone, Debug)]
struct Unit {
    steps: Vec<Event>,
    is_committed: bool,
    /// It was not committed although nothing in it had failed.
    is_given_up: bool,
}

impl Unit {
    fn session(&self) -> usize {
        self.steps[0].session
    }

    fn started(&self) -> usize {
        self.steps[0].started
    }

    fn ended(&self) -> usize {
        self.steps[self.steps.len() - 1].ended
    }

    fn precedes(&self, other: &Unit) -> bool {
        self.ended() < other.started()
    }
}

/// The first words of a step's statements.
fn commands(sql: &str) -> impl Iterator<Item = (String, String)> + '_ {
    sql.split(';').filter_map(|statement| {
        let mut words = statement.split_whitespace().map(str::to_ascii_lowercase);
        Some((words.next()?, words.next().unwrap_or_default()))
    })
}

/// Cuts one session's steps into transactions.
fn units(events: Vec<Event>) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut open: Option<Unit> = None;
    for event in events {
        let (mut begins, mut ends, mut rolls_back, mut undone) = (false, false, false, false);
        for (first, second) in commands(&event.sql) {
            match (first.as_str(), second.as_str()) {
                ("begin" | "start", _) => (begins, ends, rolls_back) = (true, false, false),
                ("rollback", "to") => undone = true,
                ("rollback" | "abort", _) => (ends, rolls_back) = (true, true),
                ("commit" | "end", _) => (ends, rolls_back) = (true, false),
                _ => {}
            }
        }
        let failed = event.answer.is_err();
        let is_inside = open.is_some() || begins;
        if rolls_back && !is_inside {
            continue;
        }
        let mut unit =
            open.take().unwrap_or(Unit { steps: Vec::new(), is_committed: true, is_given_up: false });
        if undone {
            unit.is_committed = true;
        }
        unit.is_given_up = unit.is_committed && !failed && rolls_back;
        unit.is_committed &= !failed && !rolls_back;
        unit.steps.push(event);
        if is_inside && !ends { open = Some(unit) } else { units.push(unit) }
    }
    // What was never committed is not.
    units.extend(open.map(|unit| Unit { is_committed: false, is_given_up: unit.is_committed, ..unit }));
    units
}

/// Judges an interleaving by what its steps answered and what they left.
pub(super) async fn judge(
    bench: &Bench<'_>,
    permutation: String,
    events: &[Event],
    tables: &[(String, Answer)],
) -> Result<Report, String> {
    let mut all = Vec::new();
    for session in 0..bench.spec.sessions.len() {
        let mut own: Vec<Event> = events.iter().filter(|e| e.session == session).cloned().collect();
        own.sort_by_key(|e| e.started);
        all.extend(units(own));
    }
    let given_up = all.iter().filter(|u| u.is_given_up).count();
    let aborted = all.iter().filter(|u| !u.is_committed).count() - given_up;
    let mut committed: Vec<Unit> = all.into_iter().filter(|u| u.is_committed).collect();
    committed.sort_by_key(Unit::ended);
    let mut report = Report {
        permutation,
        waited: events.iter().filter(|e| e.waited).count(),
        committed: committed.len(),
        given_up,
        aborted,
        trace: trace(events, tables),
        verdict: Verdict::NotJudged,
    };
    if events.iter().any(|e| e.sql.to_ascii_lowercase().contains("skip locked")) {
        return Ok(report);
    }
    report.verdict = Verdict::Wrong("no serial order answers the same".into());
    for order in orders(&committed) {
        if replay(bench, &order, tables).await? {
            report.verdict = Verdict::Serializable;
            break;
        }
    }
    Ok(report)
}

/// The orders that keep who ended before another began, that of the commits first.
fn orders(units: &[Unit]) -> Vec<Vec<&Unit>> {
    fn extend<'a>(left: &[&'a Unit], order: &mut Vec<&'a Unit>, all: &mut Vec<Vec<&'a Unit>>) {
        if left.is_empty() {
            all.push(order.clone());
        }
        for (at, unit) in left.iter().enumerate() {
            if all.len() >= ORDERS_MAX {
                return;
            }
            if left.iter().any(|other| other.precedes(unit)) {
                continue;
            }
            let mut rest = left.to_vec();
            order.push(rest.remove(at));
            extend(&rest, order, all);
            order.pop();
        }
    }
    let mut all = Vec::new();
    extend(&units.iter().collect::<Vec<_>>(), &mut Vec::new(), &mut all);
    all
}

/// Runs transactions one after the other: whether they answer and leave what was seen.
async fn replay(bench: &Bench<'_>, order: &[&Unit], tables: &[(String, Answer)]) -> Result<bool, String> {
    bench.set_up().await?;
    let mut same = true;
    for unit in order {
        for step in &unit.steps {
            let answer = bench.send(unit.session(), &step.sql).await;
            // A failed step of a committed transaction was undone; why it failed was not the data.
            same &= step.answer.is_err() || answer == step.answer;
        }
    }
    same = same && bench.tables().await? == tables;
    bench.tear_down().await?;
    Ok(same)
}

fn trace(events: &[Event], tables: &[(String, Answer)]) -> String {
    let mut text = String::new();
    for e in events {
        let waited = if e.waited { " (waited)" } else { "" };
        let _ = writeln!(text, "  {} {}{waited}: {}", e.name, e.sql, show(&e.answer));
    }
    for (name, rows) in tables {
        let _ = writeln!(text, "  left in {name}: {}", show(rows));
    }
    text
}

fn show(answer: &Answer) -> String {
    let answers = match answer {
        Ok(answers) => answers,
        Err((code, message)) => return format!("ERROR {code} {message}"),
    };
    let row = |row: &Vec<Option<String>>| {
        let cells: Vec<&str> = row.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
        cells.join("|")
    };
    let one = |(rows, n): &(Vec<Vec<Option<String>>>, u64)| match rows.is_empty() {
        true => n.to_string(),
        false => rows.iter().map(row).collect::<Vec<_>>().join(", "),
    };
    answers.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(session: usize, sql: &str, started: usize, ok: bool) -> Event {
        let answer = if ok { Ok(Vec::new()) } else { Err(("40001".into(), String::new())) };
        Event {
            session,
            name: String::new(),
            sql: sql.into(),
            started,
            ended: started + 1,
            waited: false,
            answer,
        }
    }

    #[test]
    fn transactions_of_a_session() {
        let steps = [
            ("SELECT 1", true),
            ("BEGIN; SELECT 2", true),
            ("COMMIT", true),
            ("BEGIN", true),
            ("UPDATE", false),
            ("COMMIT", true),
            ("BEGIN", true),
            ("UPDATE", false),
            ("ROLLBACK TO SAVEPOINT f", true),
            ("COMMIT", true),
            ("BEGIN", true),
            ("ROLLBACK", true),
            ("BEGIN", true),
        ];
        let events = steps.iter().enumerate().map(|(i, (sql, ok))| event(0, sql, 2 * i, *ok)).collect();
        let shape: Vec<_> =
            units(events).iter().map(|u| (u.steps.len(), u.is_committed, u.is_given_up)).collect();
        let expected = [
            (1, true, false),
            (2, true, false),
            (3, false, false),
            (4, true, false),
            (2, false, true),
            (1, false, true),
        ];
        assert_eq!(shape, expected);
    }

    #[test]
    fn orders_keep_real_time() {
        let unit = |session, started| Unit {
            steps: vec![event(session, "", started, true)],
            is_committed: true,
            is_given_up: false,
        };
        let mut long = unit(2, 0);
        long.steps.push(event(2, "", 9, true));
        // 0 before 1; 2 overlaps both.
        let units = [unit(0, 1), unit(1, 5), long];
        let seen: Vec<Vec<usize>> =
            orders(&units).iter().map(|o| o.iter().map(|u| u.session()).collect()).collect();
        assert_eq!(seen, [[0, 1, 2], [0, 2, 1], [2, 0, 1]]);
    }
}
