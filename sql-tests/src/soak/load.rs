//! Writers of `item` and `side` that know what they wrote, and look it up through whatever indexes there are.
//!
//! Each writer has ids of its own and knows of each row what was acknowledged. A row whose last write ended without an
//! answer is left alone from then on: that write may take effect at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Error, Statement};

use super::{connect_within, texts};

/// Writers of `item`.
const WRITERS: i64 = 4;
/// Rows that one writer keeps.
const ROWS_MAX: usize = 150;
/// Nothing takes longer, whatever is killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Values of `a`: so few that no unique index on it can be built.
const VALUES_OF_A: i32 = 40;

/// A row of `item` without its id.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    a: i32,
    b: i64,
    c: String,
    d: i32,
    n: Option<i32>,
}

impl Row {
    fn draw(rng: &mut SmallRng, b: i64) -> Row {
        let n = rng.random::<bool>().then(|| rng.random_range(0..100));
        let c = format!("c{}", rng.random_range(0..100));
        Row { a: rng.random_range(0..VALUES_OF_A), b, c, d: rng.random_range(0..1000), n }
    }

    fn n(&self) -> String {
        self.n.map_or_else(|| "NULL".to_owned(), |n| n.to_string())
    }

    fn texts(&self) -> Vec<String> {
        vec![self.a.to_string(), self.b.to_string(), self.c.clone(), self.d.to_string(), self.n()]
    }
}

/// What a row can be: every state that it may have after what was not answered.
type Possible = BTreeMap<i64, Vec<Option<Row>>>;

/// What all writers share.
pub(super) struct Shared {
    stop: AtomicBool,
    urls: Vec<String>,
    seed: u64,
    /// The next value of `b`, which no two rows ever have in common.
    next_b: AtomicI64,
    /// Statements that were answered.
    pub(super) answered: AtomicU64,
    violations: Mutex<Vec<String>>,
    /// Of `side`: ids ascend.
    next_side: AtomicI64,
    acknowledged: Mutex<BTreeSet<i64>>,
}

impl Shared {
    fn wrong(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }
}

/// The writers.
pub(super) struct Load {
    pub(super) shared: Arc<Shared>,
    items: Vec<JoinHandle<Possible>>,
    side: JoinHandle<()>,
}

/// How an attempt to write ended.
enum End {
    Done,
    Failed,
    Unknown,
}

/// Errors that clients of a cluster that loses nodes and changes its schema have to live with. `bad_` indexes refuse
/// duplicates while they are built, as PostgreSQL's do.
fn end_of(shared: &Shared, what: &str, error: &Error) -> End {
    let Some(db) = error.as_db_error() else { return End::Unknown };
    let code = db.code().code();
    let is_bad = db.constraint().is_some_and(|name| name.starts_with("bad_"));
    match code {
        "40003" => End::Unknown,
        "40001" => End::Failed,
        "23505" if is_bad => End::Failed,
        _ if code.starts_with("57P") || code.starts_with("08") => End::Unknown,
        _ => {
            shared.wrong(format!("{what} failed with {code}: {}", db.message()));
            End::Unknown
        }
    }
}

/// A connection and what is prepared on it.
struct Connection {
    client: Client,
    update: Statement,
}

impl Load {
    pub(super) fn start(urls: &[String], seed: u64) -> Load {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            urls: urls.to_vec(),
            seed,
            next_b: AtomicI64::new(1),
            answered: AtomicU64::new(0),
            violations: Mutex::default(),
            next_side: AtomicI64::new(1),
            acknowledged: Mutex::default(),
        });
        // All end with `stop`.
        let items = (0..WRITERS).map(|number| tokio::spawn(Writer::new(shared.clone(), number).run()));
        let items = items.collect();
        let side = tokio::spawn(write_side(shared.clone()));
        Load { shared, items, side }
    }

    /// The ids of `side` whose insertion was answered.
    pub(super) fn acknowledged(&self) -> BTreeSet<i64> {
        self.shared.acknowledged.lock().unwrap().clone()
    }

    /// The first id of `side` whose insertion begins later than this call.
    pub(super) fn next_side(&self) -> i64 {
        self.shared.next_side.load(Ordering::SeqCst)
    }

    /// What was seen and must not be, so far.
    pub(super) fn violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.violations.lock().unwrap())
    }

    /// Ends the writers, and compares what they know with what is there.
    pub(super) async fn finish(self, client: &Client) -> Result<Vec<String>, Error> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut possible = Possible::new();
        for writer in self.items {
            possible.extend(writer.await.unwrap());
        }
        self.side.await.unwrap();
        let rows = texts(client, "SELECT id, a, b, c, d, n FROM item WHERE id >= 0").await?;
        let mut found: BTreeMap<i64, Vec<String>> =
            rows.into_iter().map(|row| (row[0].parse().unwrap(), row[1..].to_vec())).collect();
        for (id, states) in &possible {
            let row = found.remove(id);
            if !states.iter().any(|state| state.as_ref().map(Row::texts) == row) {
                self.shared.wrong(format!("item {id} is {row:?}, and can only be one of {states:?}"));
            }
        }
        if !found.is_empty() {
            self.shared.wrong(format!("nobody has written {found:?}"));
        }
        Ok(std::mem::take(&mut *self.shared.violations.lock().unwrap()))
    }
}

/// Changes of a writer's rows that are one transaction.
type Writes = Vec<(i64, Option<Row>)>;

struct Writer {
    shared: Arc<Shared>,
    number: i64,
    rng: SmallRng,
    next: i64,
    rows: BTreeMap<i64, Row>,
    /// Rows of which not everything was answered.
    left_alone: Possible,
    at: usize,
    connection: Option<Connection>,
}

impl Writer {
    fn new(shared: Arc<Shared>, number: i64) -> Writer {
        let rng = SmallRng::seed_from_u64(shared.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let (rows, left_alone) = (BTreeMap::new(), Possible::new());
        Writer { shared, number, rng, next: 0, rows, left_alone, at: number as usize, connection: None }
    }

    async fn run(mut self) -> Possible {
        while !self.shared.stop.load(Ordering::SeqCst) {
            if !self.ready().await {
                continue;
            }
            if self.rng.random_range(0..3) == 0 {
                self.look_up().await;
                continue;
            }
            let mut writes = self.draw();
            if self.rng.random_range(0..4) == 0 {
                let more = self.draw();
                if more[0].0 != writes[0].0 {
                    writes.extend(more);
                }
            }
            self.write(writes).await;
        }
        let known = self.rows.into_iter().map(|(id, row)| (id, vec![Some(row)]));
        known.chain(self.left_alone).collect()
    }

    /// Connects where it is not connected; at the next address when this one does not answer.
    async fn ready(&mut self) -> bool {
        if self.connection.as_ref().is_some_and(|c| !c.client.is_closed()) {
            return true;
        }
        let url = &self.shared.urls[self.at % self.shared.urls.len()];
        self.at += 1;
        let connected = async {
            let client = connect_within(url).await?;
            let update = client.prepare("UPDATE item SET a = $1, b = $2 WHERE id = $3").await.ok()?;
            Some(Connection { client, update })
        };
        self.connection = connected.await;
        if self.connection.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.connection.is_some()
    }

    fn draw(&mut self) -> Writes {
        let b = self.shared.next_b.fetch_add(1, Ordering::SeqCst);
        let chosen = self.rng.random_range(0..self.rows.len().max(1));
        let mine = self.rows.iter().nth(chosen).map(|(id, row)| (*id, row.clone()));
        let is_full = self.rows.len() >= ROWS_MAX;
        match (self.rng.random_range(0..10), mine) {
            (0..=2, Some((id, _))) if is_full || self.rng.random() => vec![(id, None)],
            (_, None) | (0..=4, _) if !is_full => {
                self.next += 1;
                let id = self.next * WRITERS + self.number;
                vec![(id, Some(Row::draw(&mut self.rng, b)))]
            }
            (_, Some((id, row))) => {
                let drawn = Row::draw(&mut self.rng, b);
                // Half of the updates change what the prepared statement does.
                let row = if self.rng.random() { Row { a: drawn.a, b, ..row } } else { drawn };
                vec![(id, Some(row))]
            }
            (_, None) => unreachable!("who has no rows has room"),
        }
    }

    async fn one(&self, id: i64, row: Option<&Row>) -> Result<(), Error> {
        let connection = self.connection.as_ref().expect("it is connected");
        let client = &connection.client;
        match (row, self.rows.get(&id)) {
            (None, _) => client.batch_execute(&format!("DELETE FROM item WHERE id = {id}")).await,
            (Some(row), None) => {
                let Row { a, b, c, d, .. } = row;
                let n = row.n();
                let sql =
                    format!("INSERT INTO item (id, a, b, c, d, n) VALUES ({id}, {a}, {b}, '{c}', {d}, {n})");
                client.batch_execute(&sql).await
            }
            (Some(row), Some(old)) if (&row.c, row.d, row.n) == (&old.c, old.d, old.n) => {
                client.execute(&connection.update, &[&row.a, &row.b, &id]).await.map(drop)
            }
            (Some(row), Some(_)) => {
                let Row { a, b, c, d, .. } = row;
                let n = row.n();
                let sql =
                    format!("UPDATE item SET a = {a}, b = {b}, c = '{c}', d = {d}, n = {n} WHERE id = {id}");
                client.batch_execute(&sql).await
            }
        }
    }

    /// Writes as one transaction, and how that ended as far as this client can tell.
    async fn transact(&self, writes: &Writes) -> End {
        let judge = |error: &Error| end_of(&self.shared, &format!("{writes:?}"), error);
        let client = &self.connection.as_ref().expect("it is connected").client;
        if let [(id, row)] = &writes[..] {
            return match self.one(*id, row.as_ref()).await {
                Ok(()) => End::Done,
                Err(e) => judge(&e),
            };
        }
        let body = async {
            client.batch_execute("BEGIN").await?;
            for (id, row) in writes {
                self.one(*id, row.as_ref()).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(e) = body.await {
            judge(&e);
            // Nothing was committed, whatever the reason.
            let _ = client.batch_execute("ROLLBACK").await;
            return End::Failed;
        }
        match client.batch_execute("COMMIT").await {
            Ok(()) => End::Done,
            Err(e) => judge(&e),
        }
    }

    async fn write(&mut self, writes: Writes) {
        let ended = match timeout(PATIENCE, self.transact(&writes)).await {
            Ok(ended) => ended,
            Err(_) => {
                self.shared.wrong(format!("no answer within {PATIENCE:?} to {writes:?}"));
                End::Unknown
            }
        };
        match ended {
            End::Done => {
                self.shared.answered.fetch_add(1, Ordering::SeqCst);
                for (id, row) in writes {
                    match row {
                        Some(row) => drop(self.rows.insert(id, row)),
                        None => drop(self.rows.remove(&id)),
                    }
                }
            }
            End::Failed => {}
            End::Unknown => {
                self.connection = None;
                for (id, row) in writes {
                    self.left_alone.insert(id, vec![self.rows.remove(&id), row]);
                }
            }
        }
    }

    /// Looks its rows up by a value that there may be an index on.
    async fn look_up(&mut self) {
        let Some(row) = self.rows.values().nth(self.rng.random_range(0..self.rows.len().max(1))) else {
            return;
        };
        let (condition, is_meant): (String, Box<dyn Fn(&Row) -> bool + Send>) =
            match self.rng.random_range(0..4) {
                0 => {
                    let b = row.b;
                    (format!("b = {b}"), Box::new(move |r: &Row| r.b == b))
                }
                1 => {
                    let c = row.c.clone();
                    (format!("c = '{c}'"), Box::new(move |r: &Row| r.c == c))
                }
                2 => {
                    let (a, b) = (row.a, row.b);
                    let meant = move |r: &Row| r.a == a && r.b >= b;
                    (format!("a = {a} AND b >= {b}"), Box::new(meant))
                }
                _ => {
                    let a = row.a;
                    (format!("a = {a}"), Box::new(move |r: &Row| r.a == a))
                }
            };
        let client = &self.connection.as_ref().expect("it is connected").client;
        let sql = format!("SELECT id, b FROM item WHERE {condition}");
        let found = match timeout(PATIENCE, texts(client, &sql)).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(e)) => {
                if let End::Unknown = end_of(&self.shared, &sql, &e) {
                    self.connection = None;
                }
                return;
            }
            Err(_) => return self.shared.wrong(format!("no answer within {PATIENCE:?} to {sql}")),
        };
        let is_mine = |id: &i64| *id >= 0 && id % WRITERS == self.number && !self.left_alone.contains_key(id);
        let found: BTreeSet<(i64, String)> = found
            .into_iter()
            .map(|row| (row[0].parse().unwrap(), row[1].clone()))
            .filter(|(id, _)| is_mine(id))
            .collect();
        let meant = self.rows.iter().filter(|(_, row)| is_meant(row));
        let meant: BTreeSet<(i64, String)> = meant.map(|(id, row)| (*id, row.b.to_string())).collect();
        self.shared.answered.fetch_add(1, Ordering::SeqCst);
        if found != meant {
            let missing: Vec<_> = meant.difference(&found).collect();
            let strange: Vec<_> = found.difference(&meant).collect();
            self.shared.wrong(format!("{sql}: {missing:?} is missing, {strange:?} should not be there"));
        }
    }
}

/// Inserts into `side` all the while.
async fn write_side(shared: Arc<Shared>) {
    let mut client: Option<Client> = None;
    let mut at = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let Some(connected) = client.as_ref().filter(|c| !c.is_closed()) else {
            client = connect_within(&shared.urls[at % shared.urls.len()]).await;
            at += 1;
            if client.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        let id = shared.next_side.fetch_add(1, Ordering::SeqCst);
        let sql = format!("INSERT INTO side (id, v) VALUES ({id}, {})", id % 100);
        match timeout(PATIENCE, connected.batch_execute(&sql)).await {
            Ok(Ok(())) => drop(shared.acknowledged.lock().unwrap().insert(id)),
            Ok(Err(e)) => {
                if let End::Unknown = end_of(&shared, &sql, &e) {
                    client = None;
                }
            }
            Err(_) => {
                shared.wrong(format!("no answer within {PATIENCE:?} to {sql}"));
                client = None;
            }
        }
        // It is here to be truncated, not to be big.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
