//! `set`: what was added stays.
//!
//! Single elements are registers of the history, written once. Reads of everything are checked here, since a history
//! of them would grow with the square of the run.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use meridian_history::RecordedOp;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio_postgres::{Client, Error};

use crate::outcome::Outcome;
use crate::workload::{Answers, Detail, Plan, Workload, number, rows};

/// Of so many plans one reads everything.
const WHOLE_READS: u32 = 40;

/// Look-ups ask for elements that were added this recently.
const RECENT: u64 = 20;

#[derive(Default)]
struct Known {
    /// Acknowledged additions, in the order of their acknowledgement.
    acknowledged: Vec<u64>,
    failed: BTreeSet<u64>,
}

pub(crate) struct Set {
    next: AtomicU64,
    known: Mutex<Known>,
}

impl Set {
    pub(crate) fn new() -> Self {
        Set { next: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Reads everything and compares it with the first `acknowledged` additions.
    async fn compare(&self, client: &Client, acknowledged: usize) -> Result<Option<String>, Error> {
        let rows = rows(client, "SELECT id FROM element").await?;
        let there: BTreeSet<u64> = rows.iter().map(|row| number(row, 0) as u64).collect();
        let known = self.known.lock();
        let lost: Vec<&u64> =
            known.acknowledged[..acknowledged].iter().filter(|e| !there.contains(e)).collect();
        let planned = self.next.load(Ordering::Relaxed);
        let invented: Vec<&u64> =
            there.iter().filter(|e| known.failed.contains(e) || **e >= planned).collect();
        if !lost.is_empty() {
            return Ok(Some(format!("acknowledged additions are lost: {lost:?}")));
        }
        Ok((!invented.is_empty()).then(|| format!("elements are there that were never added: {invented:?}")))
    }
}

#[async_trait]
impl Workload for Set {
    async fn setup(&self, client: &Client) -> Result<(), Error> {
        let sql = "DROP TABLE IF EXISTS element; CREATE TABLE element (id bigint PRIMARY KEY)";
        client.batch_execute(sql).await
    }

    fn plan(&self, rng: &mut SmallRng) -> Plan {
        if rng.random_range(0..WHOLE_READS) == 0 {
            let acknowledged = self.known.lock().acknowledged.len();
            let detail = Detail::ReadSet(acknowledged);
            return Plan { operations: Vec::new(), is_read_only: rng.random(), detail };
        }
        let next = self.next.load(Ordering::Relaxed);
        if next > 0 && rng.random() {
            let recent = || next.saturating_sub(RECENT)..next;
            let mut keys = BTreeSet::from([rng.random_range(recent())]);
            keys.insert(rng.random_range(recent()));
            let operations = keys.into_iter().map(|key| RecordedOp::ReadRegister(key, None)).collect();
            return Plan { operations, is_read_only: rng.random(), detail: Detail::None };
        }
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let operations = vec![RecordedOp::Write(key, 1)];
        Plan { operations, is_read_only: false, detail: Detail::None }
    }

    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error> {
        if let Detail::ReadSet(acknowledged) = plan.detail {
            let wrong = self.compare(client, acknowledged).await?;
            return Ok(Answers { operations: Vec::new(), wrong });
        }
        let mut answers = Vec::with_capacity(plan.operations.len());
        for operation in &plan.operations {
            answers.push(match operation {
                RecordedOp::ReadRegister(key, _) => {
                    let sql = format!("SELECT 1 FROM element WHERE id = {key}");
                    RecordedOp::ReadRegister(*key, rows(client, &sql).await?.first().map(|_| 1))
                }
                RecordedOp::Write(key, _) => {
                    client.batch_execute(&format!("INSERT INTO element VALUES ({key})")).await?;
                    operation.clone()
                }
                RecordedOp::Append(..) | RecordedOp::ReadList(..) => unreachable!("not planned"),
            });
        }
        Ok(answers.into())
    }

    fn observe(&self, plan: &Plan, outcome: Outcome) {
        if let Some(RecordedOp::Write(key, _)) = plan.operations.first() {
            let mut known = self.known.lock();
            match outcome {
                Outcome::Ok => known.acknowledged.push(*key),
                Outcome::Failed => drop(known.failed.insert(*key)),
                Outcome::Unknown => {}
            }
        }
    }

    async fn check(&self, client: &Client) -> Result<Vec<String>, Error> {
        let acknowledged = self.known.lock().acknowledged.len();
        Ok(self.compare(client, acknowledged).await?.into_iter().collect())
    }
}
