//! `register`, `long-fork` and `monotonic`: rows with one value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use meridian_history::RecordedOp;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio_postgres::{Client, Error};

use crate::outcome::Outcome;
use crate::workload::{Answers, Detail, Plan, Workload, number, rows};

/// Two tables, so that transactions cross shards.
const TABLES: u64 = 2;

async fn create(client: &Client, name: &str) -> Result<(), Error> {
    for i in 0..TABLES {
        let sql = format!(
            "DROP TABLE IF EXISTS {name}_{i}; CREATE TABLE {name}_{i} (id bigint PRIMARY KEY, value bigint NOT NULL)"
        );
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Reads and writes registers as planned.
async fn execute(client: &Client, name: &str, plan: &Plan) -> Result<Vec<RecordedOp>, Error> {
    let mut answers = Vec::with_capacity(plan.operations.len());
    for operation in &plan.operations {
        answers.push(match operation {
            RecordedOp::ReadRegister(key, _) => {
                let sql = format!("SELECT value FROM {name}_{} WHERE id = {key}", key % TABLES);
                let rows = rows(client, &sql).await?;
                RecordedOp::ReadRegister(*key, rows.first().map(|row| number(row, 0)))
            }
            RecordedOp::Write(key, value) => {
                let sql = format!(
                    "INSERT INTO {name}_{} VALUES ({key}, {value}) ON CONFLICT (id) DO UPDATE SET value = {value}",
                    key % TABLES
                );
                client.batch_execute(&sql).await?;
                operation.clone()
            }
            RecordedOp::Append(..) | RecordedOp::ReadList(..) => unreachable!("not planned"),
        });
    }
    Ok(answers)
}

/// `register`: reads, blind writes, and writes of what was read before.
pub(crate) struct Registers {
    next: AtomicI64,
}

/// Few, so that transactions meet.
const REGISTERS: u64 = 12;

impl Registers {
    pub(crate) fn new() -> Self {
        Registers { next: AtomicI64::new(1) }
    }
}

#[async_trait]
impl Workload for Registers {
    async fn setup(&self, client: &Client) -> Result<(), Error> {
        create(client, "register").await
    }

    fn plan(&self, rng: &mut SmallRng) -> Plan {
        let only_reads = rng.random_range(0..3) == 0;
        let mut operations = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            let key = rng.random_range(0..REGISTERS);
            // A write after a read puts two versions in order, which is what makes a register's history telling.
            let (read, write) = match rng.random_range(0..4) {
                _ if only_reads => (true, false),
                0 => (true, false),
                1 => (false, true),
                _ => (true, true),
            };
            if read {
                operations.push(RecordedOp::ReadRegister(key, None));
            }
            if write {
                operations.push(RecordedOp::Write(key, self.next.fetch_add(1, Ordering::Relaxed)));
            }
        }
        Plan { operations, is_read_only: only_reads && rng.random(), detail: Detail::None }
    }

    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error> {
        Ok(execute(client, "register", plan).await?.into())
    }
}

/// `long-fork`: every register is written once, and read together with its neighbours.
pub(crate) struct LongFork {
    next: AtomicU64,
}

/// Registers that are read together.
const GROUP: u64 = 6;

/// Reads look at groups that were written this recently.
const RECENT_GROUPS: u64 = 2;

impl LongFork {
    pub(crate) fn new() -> Self {
        LongFork { next: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Workload for LongFork {
    async fn setup(&self, client: &Client) -> Result<(), Error> {
        create(client, "fork").await
    }

    fn plan(&self, rng: &mut SmallRng) -> Plan {
        if rng.random_range(0..3) == 0 {
            let key = self.next.fetch_add(1, Ordering::Relaxed);
            let operations = vec![RecordedOp::Write(key, 1)];
            return Plan { operations, is_read_only: false, detail: Detail::None };
        }
        let group =
            (self.next.load(Ordering::Relaxed) / GROUP).saturating_sub(rng.random_range(0..RECENT_GROUPS));
        let keys = group * GROUP..(group + 1) * GROUP;
        let operations = keys.map(|key| RecordedOp::ReadRegister(key, None)).collect();
        Plan { operations, is_read_only: rng.random(), detail: Detail::None }
    }

    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error> {
        Ok(execute(client, "fork", plan).await?.into())
    }
}

/// `monotonic`: counters. Beside its count a row names who wrote it last, since counts repeat when an increment fails.
pub(crate) struct Monotonic {
    next: AtomicI64,
    /// For each counter the increments that happened, and those that may have.
    increments: Mutex<BTreeMap<u64, (i64, i64)>>,
}

const COUNTERS: u64 = 5;

impl Monotonic {
    pub(crate) fn new() -> Self {
        Monotonic { next: AtomicI64::new(1), increments: Mutex::default() }
    }
}

#[async_trait]
impl Workload for Monotonic {
    async fn setup(&self, client: &Client) -> Result<(), Error> {
        let sql = "DROP TABLE IF EXISTS counter;
                   CREATE TABLE counter (id bigint PRIMARY KEY, count bigint NOT NULL, writer bigint NOT NULL)";
        client.batch_execute(sql).await
    }

    fn plan(&self, rng: &mut SmallRng) -> Plan {
        let key = rng.random_range(0..COUNTERS);
        let only_reads = rng.random_range(0..3) == 0;
        let mut operations = vec![RecordedOp::ReadRegister(key, None)];
        match only_reads {
            true => operations.push(RecordedOp::ReadRegister((key + 1) % COUNTERS, None)),
            false => operations.push(RecordedOp::Write(key, self.next.fetch_add(1, Ordering::Relaxed))),
        }
        Plan { operations, is_read_only: only_reads && rng.random(), detail: Detail::None }
    }

    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error> {
        let mut answers = Vec::new();
        let mut count = 0;
        for operation in &plan.operations {
            answers.push(match operation {
                RecordedOp::ReadRegister(key, _) => {
                    let sql = format!("SELECT count, writer FROM counter WHERE id = {key}");
                    let rows = rows(client, &sql).await?;
                    count = rows.first().map_or(0, |row| number(row, 0));
                    RecordedOp::ReadRegister(*key, rows.first().map(|row| number(row, 1)))
                }
                RecordedOp::Write(key, writer) => {
                    let next = count + 1;
                    let sql = format!(
                        "INSERT INTO counter VALUES ({key}, {next}, {writer}) \
                         ON CONFLICT (id) DO UPDATE SET count = {next}, writer = {writer}"
                    );
                    client.batch_execute(&sql).await?;
                    operation.clone()
                }
                RecordedOp::Append(..) | RecordedOp::ReadList(..) => unreachable!("not planned"),
            });
        }
        Ok(answers.into())
    }

    fn observe(&self, plan: &Plan, outcome: Outcome) {
        let Some(RecordedOp::Write(key, _)) = plan.operations.last() else { return };
        let mut increments = self.increments.lock();
        let (happened, possible) = increments.entry(*key).or_default();
        match outcome {
            Outcome::Ok => *happened += 1,
            Outcome::Unknown => *possible += 1,
            Outcome::Failed => {}
        }
    }

    async fn check(&self, client: &Client) -> Result<Vec<String>, Error> {
        let rows = rows(client, "SELECT id, count FROM counter").await?;
        let counts: BTreeMap<i64, i64> = rows.iter().map(|row| (number(row, 0), number(row, 1))).collect();
        let increments = self.increments.lock();
        let wrong = increments.iter().filter_map(|(key, (happened, possible))| {
            let count = counts.get(&(*key as i64)).copied().unwrap_or(0);
            let right = (*happened..=happened + possible).contains(&count);
            (!right).then(|| {
                format!("counter {key} is at {count} after {happened} increments and {possible} of unknown outcome")
            })
        });
        Ok(wrong.collect())
    }
}
