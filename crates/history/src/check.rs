//! The check as a whole.

use crate::anomaly::Anomaly;
use crate::cycle;
use crate::edn::HistoryError;
use crate::explain;
use crate::graph::GraphBuilder;
use crate::history::{History, Outcome};
use crate::index::index;
use crate::{list, realtime, register};

/// What a check found.
#[derive(Debug)]
pub struct Report<'a> {
    history: &'a History,
    /// What is wrong; nothing in a history that may be strictly serializable.
    pub anomalies: Vec<Anomaly>,
    /// How many dependencies were compared.
    pub dependencies: usize,
}

impl Report<'_> {
    /// Whether nothing wrong was found.
    pub fn is_valid(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// What was looked at, in one line.
    pub fn summary(&self) -> String {
        let count = |outcome| self.history.transactions().filter(|(_, t)| t.outcome == outcome).count();
        format!(
            "{} transactions ({} committed, {} aborted, {} unknown), {} operations on {} keys, {} dependencies",
            self.history.transactions.len(),
            count(Outcome::Committed),
            count(Outcome::Aborted),
            count(Outcome::Unknown),
            self.history.operation_count(),
            self.history.key_names.len(),
            self.dependencies,
        )
    }

    /// Each anomaly with the transactions in it and the reason of each step; of many of one kind the first ones.
    pub fn explanation(&self) -> String {
        explain::all(self.history, &self.anomalies)
    }
}

/// Checks a history for strict serializability.
///
/// # Errors
/// The history can't be checked: a value was written twice to one key, or a key is used as a list and as a register.
pub fn check(history: &History) -> Result<Report<'_>, HistoryError> {
    let mut anomalies = Vec::new();
    let index = index(history, &mut anomalies)?;
    let mut graph = GraphBuilder::new(history.transactions.len());
    for (key, all) in index.keys() {
        match all.is_list {
            true => list::analyse(history, &index, key, &mut graph, &mut anomalies),
            false => register::analyse(history, &index, key, &mut graph, &mut anomalies),
        }
    }
    realtime::chain(history, &index, &mut graph);
    let graph = graph.build();
    anomalies.extend(cycle::cycles(&graph).into_iter().map(Anomaly::Cycle));
    Ok(Report { history, anomalies, dependencies: graph.edge_count() })
}
