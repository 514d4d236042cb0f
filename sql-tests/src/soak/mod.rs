//! Schema changes at random moments of a busy cluster whose nodes are killed, and what came of it.
//!
//! ```text
//!   bank workload      transfers, all balances; its history is checked at the end      (bank_0, bank_1)
//!   writers            know what they wrote, look it up through indexes                (item, side)
//!   changes            drawn from a seed: waited for, deferred or scheduled; left alone, or cancelled, or paused, or
//!                      with a node killed meanwhile; sometimes two at a time
//! ```
//! After each change the schema must be the old one or the new one, as the change's end says, on whichever node is asked;
//! the past before it must have the old one; and in one read-only transaction every index agrees with its table, every
//! constraint holds, no money was made, and what was truncated is gone. At the end nothing acknowledged is lost, and
//! nothing is left to be removed.
//!
//! The choices follow from the seed and from how the changes before have ended. Timing does not.

mod attempt;
mod change;
mod load;
mod schema;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::chaos::{UnderWatch, eventually_progress};
use crate::{Cluster, connect, eventually};
use attempt::{Attempt, End, Mode, Resolution};
use change::{Change, draw};
use load::Load;
use schema::{Schema, TABLES, conditions, differences, observe};

/// A connection is waited for so long.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Whatever happens, a change is over, and a node answers, within this time.
const PATIENCE: Duration = Duration::from_secs(120);
/// The greatest pause before something is done to a change, in milliseconds; and the same where it is to be met early.
const MOMENT: u64 = 700;
const EARLY: u64 = 60;

/// How transfers may fail while nodes come and go: for the client's patience or connection, with a conflict, or because a
/// node went down.
const KNOWN_CODES: [&str; 6] = ["connect", "timeout", "40001", "40003", "57P", "08"];

/// What is done to a change while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disturbance {
    Nothing,
    /// SIGKILL of a node, which comes back at once, or when the change is over.
    Kill {
        victim: usize,
        comes_back: bool,
    },
    Cancel,
    Pause,
}

/// The rows of a statement, as text; a NULL is `NULL`.
async fn texts(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

async fn connect_within(url: &str) -> Option<Client> {
    tokio::time::timeout(CONNECT_WITHIN, connect(url)).await.ok()?.ok()
}

struct Soak<'a> {
    cluster: &'a mut Cluster,
    load: Load,
    schema: Schema,
    /// Rows of `side` that a TRUNCATE has removed for certain, and the first id that none has.
    gone: BTreeSet<i64>,
    side_from: i64,
    down: Option<usize>,
    wrong: Vec<String>,
}

/// Makes the tables; `item` has so many rows that nobody changes.
async fn set_up(client: &Client, rows: i64) {
    let old = texts(client, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'").await.unwrap();
    for table in old {
        client.batch_execute(&format!("DROP TABLE {}", table[0])).await.unwrap();
    }
    client
        .batch_execute(
            "CREATE TABLE item (id bigint PRIMARY KEY, a int NOT NULL, b bigint NOT NULL, c text NOT NULL,
                                d int, n int);
             CREATE TABLE side (id bigint PRIMARY KEY, v int)",
        )
        .await
        .unwrap();
    for from in (1..=rows).step_by(5_000) {
        let to = rows.min(from + 4_999);
        let fill = format!(
            "INSERT INTO item SELECT 0 - g, g % 40, 1000000000000 + g, 'c' || g % 100, g % 1000,
                    CASE WHEN g % 2 = 0 THEN g END FROM generate_series({from}, {to}) g(g)"
        );
        client.batch_execute(&fill).await.unwrap();
    }
    client.batch_execute(&format!("SELECT meridian.split_at('item', {})", -rows / 2)).await.unwrap();
    client.batch_execute("SELECT meridian.split_at('item', 0)").await.unwrap();
}

/// Makes so many changes, with so many rows in the table that most of them are about, and answers what is wrong.
pub async fn soak(cluster: &mut Cluster, seed: u64, changes: u64, rows: i64) -> Vec<String> {
    set_up(&connect(&cluster.url(0)).await.unwrap(), rows).await;
    let bank = UnderWatch::start(cluster, "bank", seed).await;
    let urls: Vec<String> = (0..3).map(|node| cluster.url(node)).collect();
    let load = Load::start(&urls, seed);
    let schema = observe(&connect(&cluster.url(0)).await.unwrap()).await.unwrap();
    let (gone, side_from) = (BTreeSet::new(), 1);
    let mut soak = Soak { cluster, load, schema, gone, side_from, down: None, wrong: Vec::new() };
    for serial in 0..changes {
        eventually_progress(&bank.running).await;
        soak.one(seed, serial, rows).await;
        if !soak.wrong.is_empty() {
            break;
        }
    }
    let mut wrong = soak.finish(rows).await;
    let (seen, codes) = bank.finish("schema changes").await;
    wrong.extend(seen);
    let unheard = codes.keys().filter(|code| !KNOWN_CODES.iter().any(|known| code.starts_with(known)));
    wrong.extend(unheard.map(|code| format!("a transfer failed with {code}")));
    wrong.into_iter().map(|w| format!("schema soak, seed {seed}: {w}")).collect()
}

impl Soak<'_> {
    /// A node that runs.
    fn up(&self, any: usize) -> usize {
        let node = any % 3;
        if self.down == Some(node) { (node + 1) % 3 } else { node }
    }

    /// A connection to a node that runs, sooner or later.
    async fn client(&self, any: usize) -> Client {
        let begun = Instant::now();
        for at in any.. {
            if let Some(client) = connect_within(&self.cluster.url(self.up(at))).await {
                return client;
            }
            assert!(begun.elapsed() < PATIENCE, "no node answers");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("the loop returns")
    }

    /// One change, or two at the same time, and the check after it.
    async fn one(&mut self, seed: u64, serial: u64, rows: i64) {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(serial));
        let first = draw(&mut rng, &self.schema, 2 * serial, None);
        let second = (rng.random_range(0..5) == 0)
            .then(|| draw(&mut rng, &self.schema, 2 * serial + 1, Some(&first.table)));
        let mode = match rng.random_range(0..10) {
            0..=1 if first.can_defer => Mode::Async,
            2..=3 if first.can_defer => Mode::Scheduled(Duration::from_millis(rng.random_range(200..1500))),
            _ => Mode::Wait,
        };
        let disturbance = match rng.random_range(0..20) {
            0..=4 => Disturbance::Kill { victim: rng.random_range(0..3), comes_back: rng.random() },
            5..=8 => Disturbance::Cancel,
            9..=11 => Disturbance::Pause,
            _ => Disturbance::Nothing,
        };
        let node: usize = rng.random_range(0..3);
        let begun = Instant::now();
        let before = self.moment(node).await;
        let acknowledged = self.load.acknowledged();
        let mut attempts = vec![Attempt::start(&self.cluster.url(node), &first, mode)];
        if let Some(second) = &second {
            attempts.push(Attempt::start(&self.cluster.url((node + 1) % 3), second, Mode::Wait));
        }
        self.disturb(&mut rng, disturbance, &mut attempts[0]).await;
        let mut ends = Vec::new();
        for attempt in attempts {
            ends.push(attempt.end().await);
        }
        self.come_back().await;
        let changes: Vec<Change> = std::iter::once(first).chain(second).collect();
        for (change, end) in changes.iter().zip(&ends) {
            let resolved = self.resolve(change, end).await;
            println!(
                "#{:<4} {:<110} {mode:?}, {disturbance:?}: {resolved:?} after {:.1?}",
                serial,
                change.statements.join("; "),
                begun.elapsed()
            );
            self.judge(change, &resolved, disturbance);
            self.expect(change, &resolved, rng.random_range(0..3)).await;
            if change.truncates {
                self.side_from = self.load.next_side();
                if matches!(resolved, Resolution::Succeeded { .. }) {
                    self.gone.extend(&acknowledged);
                }
            }
        }
        self.past_is_as_it_was(&before, rng.random_range(0..3)).await;
        self.check(rng.random_range(0..3), rows).await;
        let seen = self.load.violations();
        self.wrong.extend(seen);
    }

    /// A moment that is past, as `AS OF SYSTEM TIME` takes it, with the columns of `item` then.
    async fn moment(&self, node: usize) -> (String, BTreeSet<String>) {
        let begun = Instant::now();
        loop {
            let client = self.client(node).await;
            if let Ok(rows) = texts(&client, "SELECT earliest FROM meridian.truetime()").await {
                return (rows[0][0].clone(), self.columns_of_item());
            }
            assert!(begun.elapsed() < PATIENCE, "no node tells the time");
        }
    }

    fn columns_of_item(&self) -> BTreeSet<String> {
        let columns = self.schema.keys().filter_map(|object| match object {
            schema::Object::Column(table, name) if table == "item" => Some(name.clone()),
            _ => None,
        });
        columns.collect()
    }

    async fn past_is_as_it_was(&mut self, (at, columns): &(String, BTreeSet<String>), any: usize) {
        let begun = Instant::now();
        loop {
            let client = self.client(any).await;
            let sql = format!("SELECT * FROM item AS OF SYSTEM TIME {at} LIMIT 1");
            match client.simple_query(&sql).await {
                Ok(messages) => {
                    let row = messages.iter().find_map(|m| match m {
                        SimpleQueryMessage::Row(row) => Some(row),
                        _ => None,
                    });
                    let row = row.expect("the table has rows");
                    let found: BTreeSet<String> = row.columns().iter().map(|c| c.name().to_owned()).collect();
                    if found != *columns {
                        self.wrong.push(format!("at {at} item had {columns:?}, and is read with {found:?}"));
                    }
                    return;
                }
                Err(e) if begun.elapsed() > PATIENCE => {
                    return self.wrong.push(format!("the past can't be read: {e:?}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn disturb(&mut self, rng: &mut SmallRng, disturbance: Disturbance, attempt: &mut Attempt) {
        if disturbance == Disturbance::Nothing {
            return;
        }
        let moment = if rng.random() { EARLY } else { MOMENT };
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..moment))).await;
        match disturbance {
            Disturbance::Nothing => {}
            Disturbance::Kill { victim, comes_back } => {
                self.cluster.kill(victim);
                self.down = Some(victim);
                if comes_back {
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..MOMENT))).await;
                    self.come_back().await;
                }
            }
            Disturbance::Cancel if rng.random() => attempt.cancel_statement().await,
            Disturbance::Cancel => {
                let client = self.client(rng.random_range(0..3)).await;
                // Too late where it is over already.
                attempt.tell_job(&client, "CANCEL").await;
            }
            Disturbance::Pause => {
                let client = self.client(rng.random_range(0..3)).await;
                if attempt.tell_job(&client, "PAUSE").await {
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..2 * MOMENT))).await;
                    attempt.tell_job(&client, "RESUME").await;
                }
            }
        }
    }

    async fn come_back(&mut self) {
        if let Some(node) = self.down.take() {
            self.cluster.restart(node);
            self.cluster.wait_ready(node).await;
        }
    }

    /// What a change has become, when it is over.
    async fn resolve(&mut self, change: &Change, end: &End) -> Resolution {
        match end {
            End::Done => return Resolution::Succeeded { is_answered: true },
            End::Refused { code, message } => {
                return Resolution::Failed { code: Some(code.clone()), message: message.clone() };
            }
            End::Deferred | End::Unanswered(_) => {}
        }
        let begun = Instant::now();
        let mut is_outwaited = matches!(end, End::Deferred);
        loop {
            assert!(begun.elapsed() < PATIENCE, "{change:?} does not end");
            let client = self.client(0).await;
            if !is_outwaited {
                is_outwaited = attempt::outwait(&client, &change.table).await;
                continue;
            }
            match attempt::state(&client, change).await {
                Ok(Some(resolution)) => return resolution,
                Ok(None) if !matches!(end, End::Deferred) => return Resolution::NoJob,
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Whether a change may have ended so.
    fn judge(&mut self, change: &Change, resolved: &Resolution, disturbance: Disturbance) {
        let is_killed = matches!(disturbance, Disturbance::Kill { .. });
        let wrong = match resolved {
            Resolution::Succeeded { .. } => change.refusal.is_some(),
            Resolution::NoJob => false,
            Resolution::Cancelled => disturbance != Disturbance::Cancel,
            Resolution::Failed { code: Some(code), .. } => {
                let is_meant = change.refusal == Some(code.as_str());
                let is_cancelled = code == "57014" && disturbance == Disturbance::Cancel;
                !(is_meant || is_cancelled || is_killed && code == "58000")
            }
            Resolution::Failed { code: None, .. } => change.refusal.is_none() && !is_killed,
        };
        if wrong {
            self.wrong.push(format!("{:?} ended as {resolved:?} under {disturbance:?}", change.statements));
        }
    }

    /// Compares the schema with what it must be, and knows it from then on.
    async fn expect(&mut self, change: &Change, resolved: &Resolution, any: usize) {
        let after = change.apply(&self.schema);
        let mine = |schema: &Schema| -> Vec<_> {
            change.after.iter().map(|(object, _)| schema.get(object).cloned()).collect()
        };
        // What was answered is seen everywhere at once; what was not, once its time has come.
        let patience = match resolved {
            Resolution::Succeeded { is_answered: true } => Duration::ZERO,
            _ => Duration::from_secs(15),
        };
        let begun = Instant::now();
        loop {
            let client = self.client(any).await;
            let found = match observe(&client).await {
                Ok(found) => found,
                Err(_) if begun.elapsed() < PATIENCE => continue,
                Err(e) => return self.wrong.push(format!("the schema can't be read: {e:?}")),
            };
            let possible: &[&Schema] = match resolved {
                Resolution::Succeeded { .. } => &[&after],
                Resolution::Failed { .. } | Resolution::Cancelled => &[&self.schema],
                Resolution::NoJob => &[&self.schema, &after],
            };
            // Another change may be under way, of another table.
            if let Some(seen) = possible.iter().find(|schema| mine(schema) == mine(&found)) {
                self.schema = Schema::clone(seen);
                return;
            }
            if begun.elapsed() >= patience {
                let differ = possible.iter().map(|schema| differences(schema, &found)).collect::<Vec<_>>();
                let node = self.up(any) + 1;
                return self.wrong.push(format!("{:?}, at node {node}: {differ:?}", change.statements));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything at one timestamp.
    async fn check(&mut self, any: usize, rows: i64) {
        let begun = Instant::now();
        for at in any.. {
            let must: BTreeSet<i64> = self.load.acknowledged().split_off(&self.side_from);
            let client = self.client(at).await;
            match self.check_on(&client, &must, rows).await {
                Ok(wrong) => return self.wrong.extend(wrong),
                Err(e) if begun.elapsed() < PATIENCE && may_pass(&e) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(e) => return self.wrong.push(format!("the check fails: {e:?}")),
            }
        }
    }

    async fn check_on(&self, client: &Client, must: &BTreeSet<i64>, rows: i64) -> Result<Vec<String>, Error> {
        let mut wrong = Vec::new();
        client.batch_execute("BEGIN READ ONLY").await?;
        for table in TABLES {
            texts(client, &format!("SELECT meridian.check_table('{table}')")).await?;
        }
        for (what, sql) in conditions(&self.schema) {
            let count = &texts(client, &sql).await?[0][0];
            if count != "0" {
                wrong.push(format!("{what}: {count} rows break it ({sql})"));
            }
        }
        let money = "SELECT (SELECT sum(balance) FROM bank_0) + (SELECT sum(balance) FROM bank_1)";
        let money = texts(client, money).await?;
        if money[0][0] != "1000" {
            wrong.push(format!("the balances sum up to {}, not 1000", money[0][0]));
        }
        let still = texts(client, "SELECT count(*), sum(b - 1000000000000) FROM item WHERE id < 0").await?;
        if still[0] != [rows.to_string(), (rows * (rows + 1) / 2).to_string()] {
            wrong.push(format!("the rows that nobody touches are {:?}", still[0]));
        }
        let side = texts(client, "SELECT id FROM side").await?;
        let side: BTreeSet<i64> = side.iter().map(|row| row[0].parse().unwrap()).collect();
        client.batch_execute("COMMIT").await?;
        let back: Vec<_> = side.intersection(&self.gone).collect();
        let lost: Vec<_> = must.difference(&side).collect();
        if !back.is_empty() || !lost.is_empty() {
            wrong.push(format!("rows of side that were truncated: {back:?}; that are lost: {lost:?}"));
        }
        Ok(wrong)
    }

    /// Ends the load. Nothing is lost, and nothing is left to be removed.
    async fn finish(mut self, rows: i64) -> Vec<String> {
        let open =
            "SELECT count(*) FROM meridian.jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')";
        eventually("no job is left", PATIENCE, || async {
            let client = self.client(0).await;
            texts(&client, open).await.is_ok_and(|rows| rows[0][0] == "0")
        })
        .await;
        for node in 0..3 {
            self.check(node, rows).await;
        }
        let client = self.client(0).await;
        let lost = self.load.finish(&client).await.unwrap();
        self.wrong.extend(lost);
        self.wrong
    }
}

/// A node went away, or could not serve for a moment.
fn may_pass(e: &Error) -> bool {
    let Some(code) = e.code() else { return true };
    let code = code.code();
    code.starts_with("57P") || code.starts_with("08") || code == "40001" || code == "40003"
}
