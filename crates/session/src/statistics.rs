//! What statements have cost on this node: `meridian.statements`.
//!
//! Statements that differ only in their literals are counted together, as one *shape*. A plan knows its shape, so that
//! counting an execution looks nothing up. Counted are queries, writes, EXPLAIN and schema changes; their time is that of
//! running them, without the commit that may follow. An attempt that met a conflict and was made again counts as a retry
//! and not as an execution.
//!
//! Invariant: there are at most [`SHAPES_MAX`] shapes, or twice as many as plans hold, of [`TEXT_BYTES_MAX`] bytes each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_datum::{Datum, SqlError};
use meridian_exec::is_retry;
use meridian_plan::Template;
use parking_lot::Mutex;

/// Shapes that are kept; beyond it, half of those without a plan are forgotten that were executed least.
const SHAPES_MAX: usize = 1000;
/// Bytes of a shape's text, of which the rest is cut off.
const TEXT_BYTES_MAX: usize = 1024;

/// Counts the executions of statements of one shape.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    executions: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    rows: AtomicU64,
    nanos: AtomicU64,
    max_nanos: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Shape {
    /// An execution ended, or a part of it, of which only the first `begins` one.
    pub(crate) fn note<T>(&self, result: &Result<T, SqlError>, begins: bool, rows: u64, took: Duration) {
        if result.as_ref().is_err_and(is_retry) {
            return;
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.executions, u64::from(begins));
        add(&self.failures, u64::from(result.is_err()));
        add(&self.rows, if result.is_ok() { rows } else { 0 });
        add(&self.nanos, nanos);
        self.max_nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    /// A conflict is made good by another attempt.
    pub(crate) fn note_retry(&self) {
        add(&self.retries, 1);
    }
}

/// The shapes of a node.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    shapes: Mutex<Shapes>,
}

#[derive(Debug)]
struct Shapes {
    by_text: HashMap<Arc<str>, Arc<Shape>>,
    /// With so many, some are forgotten before one is added.
    full: usize,
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes { by_text: HashMap::new(), full: SHAPES_MAX }
    }
}

impl Statistics {
    /// The shape of a statement.
    pub(crate) fn shape(&self, statement: &str) -> Arc<Shape> {
        let text: Arc<str> = shape_text(statement).into();
        let mut shapes = self.shapes.lock();
        if !shapes.by_text.contains_key(&text) && shapes.by_text.len() >= shapes.full {
            shapes.forget();
        }
        shapes.by_text.entry(text).or_default().clone()
    }

    /// The rows of `meridian.statements`.
    pub(crate) fn rows(&self) -> Vec<Vec<Datum>> {
        let shapes = self.shapes.lock();
        let executed =
            shapes.by_text.iter().filter(|(_, shape)| shape.executions.load(Ordering::Relaxed) > 0);
        let row = |(text, shape): (&Arc<str>, &Arc<Shape>)| {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let int = |counter| Datum::Int(i64::try_from(count(counter)).unwrap_or(i64::MAX));
            let seconds = |counter| Datum::Float8(count(counter) as f64 / 1e9);
            vec![
                Datum::from(&**text),
                int(&shape.executions),
                int(&shape.failures),
                int(&shape.retries),
                int(&shape.rows),
                seconds(&shape.nanos),
                seconds(&shape.max_nanos),
            ]
        };
        executed.map(row).collect()
    }
}

/// The text of a statement with `_` for its literals.
fn shape_text(statement: &str) -> String {
    let mut text = match Template::of(statement) {
        Some(template) => template.text.replace(|c: char| c.is_control() && !c.is_whitespace(), "_"),
        None => statement.to_owned(),
    };
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
    text.trim().to_owned()
}

impl Shapes {
    fn forget(&mut self) {
        let executions = |shape: &Arc<Shape>| shape.executions.load(Ordering::Relaxed);
        let is_held = |shape: &Arc<Shape>| Arc::strong_count(shape) > 1;
        let mut counts: Vec<u64> = self.by_text.values().filter(|s| !is_held(s)).map(executions).collect();
        let mut left = counts.len().div_ceil(2);
        if left > 0 {
            let (_, last, _) = counts.select_nth_unstable(left - 1);
            let last = *last;
            self.by_text.retain(|_, shape| {
                let goes = left > 0 && !is_held(shape) && executions(shape) <= last;
                left -= usize::from(goes);
                !goes
            });
        }
        self.full = SHAPES_MAX.max(2 * self.by_text.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_differ_in_literals_have_one_shape() {
        let statistics = Statistics::default();
        for n in 0..3u64 {
            let shape = statistics.shape(&format!("SELECT b FROM t WHERE a = {n} AND c = 'x{n}'"));
            shape.note(&Ok(()), true, n, Duration::from_millis(n));
        }
        let failed: Result<(), _> = Err(SqlError::unsupported("this"));
        statistics.shape("select 1 +").note(&failed, true, 7, Duration::from_secs(1));
        statistics.shape("planned, never run");
        let mut rows = statistics.rows();
        rows.sort_by_key(|row| format!("{row:?}"));
        assert_eq!(rows.len(), 2, "{rows:?}");
        let of = |row: &[Datum]| (row[0].as_str().unwrap().to_owned(), row[1..5].to_vec());
        let ints = |n: [i64; 4]| n.map(Datum::Int).to_vec();
        assert_eq!(of(&rows[0]), ("SELECT b FROM t WHERE a = _ AND c = _".to_owned(), ints([3, 0, 0, 3])));
        assert_eq!(rows[0][6], Datum::Float8(0.002));
        assert_eq!(of(&rows[1]).1, ints([1, 1, 0, 0]));
    }

    #[test]
    fn those_executed_least_are_forgotten_unless_a_plan_holds_them() {
        let statistics = Statistics::default();
        let held = statistics.shape("select a0 from t");
        for n in 0..SHAPES_MAX {
            let shape = statistics.shape(&format!("select a{n} from t"));
            for _ in 0..n % 10 {
                shape.note(&Ok(()), true, 0, Duration::ZERO);
            }
        }
        statistics.shape("select one_more from t").note(&Ok(()), true, 0, Duration::ZERO);
        assert_eq!(statistics.shapes.lock().by_text.len(), SHAPES_MAX / 2 + 1);
        held.note(&Ok(()), true, 0, Duration::ZERO);
        let texts = statistics.rows();
        assert!(texts.iter().any(|row| row[0].as_str() == Some("select a0 from t")), "it has a plan");
        let busiest = statistics.rows().iter().filter(|row| row[1] == Datum::Int(9)).count();
        assert_eq!(busiest, SHAPES_MAX / 10, "none of the busiest is forgotten");
    }
}
