//! Runs the interleavings of a spec against a server.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::serial::{Verdict, judge};
use super::spec::{Spec, StepId};

/// A step that neither ends nor waits for a lock for so long is stuck, which is a bug.
const STUCK: Duration = Duration::from_secs(30);

/// How many transactions wait for locks: of Meridian, and of PostgreSQL, which is run to see that the judge finds what
/// its weaker levels allow.
const WAITERS: &str = "SELECT count(DISTINCT txn) FROM meridian.locks WHERE NOT granted";
const WAITERS_POSTGRESQL: &str = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted";

/// What a statement answered: its rows in order, and its count.
pub(super) type Rows = (Vec<Vec<Option<String>>>, u64);

/// What a step answered: per statement, or the SQLSTATE and message of the first that failed.
pub(super) type Answer = Result<Vec<Rows>, (String, String)>;

/// A step that ended.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) session: usize,
    pub(super) name: String,
    pub(super) sql: String,
    /// Positions in the order in which the tester sent steps and saw them end.
    pub(super) started: usize,
    pub(super) ended: usize,
    pub(super) waited: bool,
    pub(super) answer: Answer,
}

/// Whether the clients of a spec hear of conflicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflicts {
    /// Every one, as 40001.
    Shown,
    /// Those that the server cannot make good by running the transaction again.
    Hidden,
}

/// One interleaving's outcome.
#[derive(Clone, Debug)]
pub struct Report {
    /// The steps as they were to be sent.
    pub permutation: String,
    /// Steps that waited for a lock.
    pub waited: usize,
    /// Transactions that committed.
    pub committed: usize,
    /// Transactions that rolled back, or never said what they want, although nothing had failed.
    pub given_up: usize,
    /// Transactions in which a statement failed.
    pub aborted: usize,
    /// What was seen, line by line.
    pub trace: String,
    /// Whether it is right.
    pub verdict: Verdict,
}

/// The connections of a spec.
pub(super) struct Bench<'a> {
    pub(super) spec: &'a Spec,
    control: Client,
    sessions: Vec<Arc<Client>>,
    waiters: &'static str,
}

/// Runs all interleavings of a spec. Session i is a connection to `urls[i % urls.len()]`.
///
/// # Errors
/// The server is not there, or the spec's setup does not work there.
pub async fn run_spec(urls: &[String], spec: &Spec, conflicts: Conflicts) -> Result<Vec<Report>, String> {
    let bench = Bench::connect(urls, spec, conflicts).await?;
    let mut reports = Vec::new();
    for permutation in &spec.permutations {
        bench.set_up().await?;
        let names: Vec<&str> = permutation.iter().map(|id| spec.step(*id).name.as_str()).collect();
        let events = match bench.interleave(permutation).await {
            Ok(events) => events,
            Err(stuck) => {
                // Nothing can be asked of a session that is stuck, not even to roll back.
                return Ok(vec![Report {
                    permutation: names.join(" "),
                    waited: 0,
                    committed: 0,
                    given_up: 0,
                    aborted: 0,
                    trace: String::new(),
                    verdict: Verdict::Wrong(stuck),
                }]);
            }
        };
        let tables = bench.tables().await?;
        bench.tear_down().await?;
        reports.push(judge(&bench, names.join(" "), &events, &tables).await?);
    }
    Ok(reports)
}

impl<'a> Bench<'a> {
    async fn connect(urls: &[String], spec: &'a Spec, conflicts: Conflicts) -> Result<Bench<'a>, String> {
        let open = async |url: &String| crate::connect(url).await.map_err(|e| e.to_string());
        let control = open(&urls[0]).await?;
        let is_meridian = control.simple_query(WAITERS).await.is_ok();
        let waiters = if is_meridian { WAITERS } else { WAITERS_POSTGRESQL };
        let mut sessions = Vec::new();
        for i in 0..spec.sessions.len() {
            let client = open(&urls[i % urls.len()]).await?;
            if is_meridian && conflicts == Conflicts::Shown {
                ask(&client, "SET transparent_retries = off").await.map_err(|e| e.1)?;
            }
            sessions.push(Arc::new(client));
        }
        Ok(Bench { spec, control, sessions, waiters })
    }

    pub(super) async fn set_up(&self) -> Result<(), String> {
        for sql in &self.spec.setups {
            ask(&self.control, sql).await.map_err(|(code, message)| format!("setup: {code} {message}"))?;
        }
        Ok(())
    }

    /// Ends what the sessions have open, and undoes the setup.
    pub(super) async fn tear_down(&self) -> Result<(), String> {
        for (session, spec) in self.sessions.iter().zip(&self.spec.sessions) {
            if let Some(sql) = &spec.teardown {
                // It fails in a transaction that failed.
                let _ = ask(session, sql).await;
            }
            ask(session, "ROLLBACK").await.map_err(|e| e.1)?;
        }
        if let Some(sql) = &self.spec.teardown {
            ask(&self.control, sql).await.map_err(|(code, message)| format!("teardown: {code} {message}"))?;
        }
        Ok(())
    }

    /// Sends one statement or more to a session and waits for the end.
    pub(super) async fn send(&self, session: usize, sql: &str) -> Answer {
        ask(&self.sessions[session], sql).await
    }

    /// The contents of all tables, in an order that does not depend on how they came to be.
    pub(super) async fn tables(&self) -> Result<Vec<(String, Answer)>, String> {
        for session in &self.sessions {
            ask(session, "ROLLBACK").await.map_err(|e| e.1)?;
        }
        let names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
        let mut tables = Vec::new();
        for (rows, _) in ask(&self.control, names).await.map_err(|e| e.1)? {
            for name in rows.into_iter().filter_map(|mut row| row.pop().flatten()) {
                let all = format!("SELECT * FROM public.\"{}\"", name.replace('"', "\"\""));
                tables.push((name, ask(&self.control, &all).await));
            }
        }
        Ok(tables)
    }

    async fn interleave(&self, permutation: &[StepId]) -> Result<Vec<Event>, String> {
        let mut flight =
            Flight { bench: self, clock: 0, running: Vec::new(), events: Vec::new(), idle: BTreeSet::new() };
        for (session, spec) in self.spec.sessions.iter().enumerate() {
            if let Some(sql) = &spec.setup {
                flight.start(session, "setup", sql);
                flight.settle().await?;
            }
        }
        let mut left: VecDeque<StepId> = permutation.iter().copied().collect();
        while !left.is_empty() {
            let free =
                left.iter().position(|id| flight.running.iter().all(|r| r.event.session != id.session));
            match free.and_then(|at| left.remove(at)) {
                Some(id) => {
                    let step = self.spec.step(id);
                    flight.start(id.session, &step.name, &step.sql);
                    flight.settle().await?;
                }
                None => flight.unblock(&left).await?,
            }
        }
        while !flight.running.is_empty() {
            flight.unblock(&left).await?;
        }
        Ok(flight.events)
    }
}

/// A step on its way: what is known of it, and its answer to come.
struct Running {
    event: Event,
    answer: JoinHandle<Answer>,
}

struct Flight<'a> {
    bench: &'a Bench<'a>,
    clock: usize,
    running: Vec<Running>,
    events: Vec<Event>,
    /// Sessions that were made to roll back at their end.
    idle: BTreeSet<usize>,
}

impl Flight<'_> {
    fn start(&mut self, session: usize, name: &str, sql: &str) {
        self.clock += 1;
        let event = Event {
            session,
            name: name.to_owned(),
            sql: sql.to_owned(),
            started: self.clock,
            ended: usize::MAX,
            waited: false,
            answer: Ok(Vec::new()),
        };
        let (client, sql) = (self.bench.sessions[session].clone(), sql.to_owned());
        self.running.push(Running { event, answer: tokio::spawn(async move { ask(&client, &sql).await }) });
    }

    async fn collect(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            if !self.running[at].answer.is_finished() {
                at += 1;
                continue;
            }
            let Running { mut event, answer } = self.running.remove(at);
            self.clock += 1;
            event.ended = self.clock;
            event.answer = answer.await.unwrap();
            self.events.push(event);
        }
    }

    /// Returns when every step that was sent has ended or waits for a lock.
    async fn settle(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            self.collect().await;
            if self.running.is_empty() {
                return Ok(());
            }
            let count = ask(&self.bench.control, self.bench.waiters).await.map_err(|e| e.1)?;
            let waiting: Option<usize> = count[0].0[0][0].as_deref().and_then(|n| n.parse().ok());
            self.collect().await;
            if waiting.unwrap() >= self.running.len() {
                self.running.iter_mut().for_each(|r| r.event.waited = true);
                return Ok(());
            }
            self.check(begun)?;
        }
    }

    /// Every step that is left belongs to a session that waits. Whoever has nothing more to send may have a transaction
    /// open that they wait for, which nobody would end.
    async fn unblock(&mut self, left: &VecDeque<StepId>) -> Result<(), String> {
        let mut ended = false;
        for session in 0..self.bench.sessions.len() {
            let runs = self.running.iter().any(|r| r.event.session == session);
            if !runs && left.iter().all(|id| id.session != session) && self.idle.insert(session) {
                self.start(session, "end", "ROLLBACK");
                self.settle().await?;
                ended = true;
            }
        }
        if ended || self.running.is_empty() { Ok(()) } else { self.any_ends().await }
    }

    /// Returns when a step has ended.
    async fn any_ends(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let before = self.running.len();
        while self.running.len() == before {
            self.collect().await;
            self.check(begun)?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.settle().await
    }

    fn check(&self, begun: Instant) -> Result<(), String> {
        if begun.elapsed() < STUCK {
            return Ok(());
        }
        let names: Vec<&str> = self.running.iter().map(|r| r.event.name.as_str()).collect();
        Err(format!("stuck: {}", names.join(" ")))
    }
}

async fn ask(client: &Client, sql: &str) -> Answer {
    let messages = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
        Some(db) => (db.code().code().to_owned(), db.message().to_owned()),
        None => ("?????".to_owned(), error.to_string()),
    })?;
    let (mut answers, mut rows) = (Vec::new(), Vec::new());
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect::<Vec<_>>());
            }
            SimpleQueryMessage::CommandComplete(n) => {
                // A set has no order, and an ordered one is the same when it is sorted.
                rows.sort();
                answers.push((std::mem::take(&mut rows), n));
            }
            _ => {}
        }
    }
    Ok(answers)
}
