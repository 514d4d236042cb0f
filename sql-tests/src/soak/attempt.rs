//! One attempt at a change: the statement as a client runs it, and the job that it may become.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, Error, NoTls};

use super::change::Change;
use super::{PATIENCE, connect_within, texts};

/// How a change is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// The client waits for it.
    Wait,
    /// It is a job from the beginning.
    Async,
    /// It takes effect after this time.
    Scheduled(Duration),
}

/// What the client of a change heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It has succeeded.
    Done,
    /// It is a job.
    Deferred,
    /// It has failed for certain.
    Refused { code: String, message: String },
    /// Nothing that says how it ended.
    Unanswered(String),
}

/// What a change has become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Resolution {
    Succeeded {
        /// The client of the statement heard it.
        is_answered: bool,
    },
    Failed {
        /// As the client heard it.
        code: Option<String>,
        message: String,
    },
    Cancelled,
    /// No job is known of it, nor will it ever take effect if it has not.
    NoJob,
}

/// A change that runs.
pub(super) struct Attempt {
    task: JoinHandle<End>,
    cancel: oneshot::Receiver<CancelToken>,
    marker: String,
}

fn marker(change: &Change) -> String {
    let statement = &change.statements[0];
    let from = statement.find("/*").expect("a change is numbered");
    let to = statement.find("*/").expect("a change is numbered");
    statement[from..to + 2].to_owned()
}

impl Attempt {
    pub(super) fn start(url: &str, change: &Change, mode: Mode) -> Attempt {
        let (url, statements) = (url.to_owned(), change.statements.clone());
        let (tell, cancel) = oneshot::channel();
        let task = tokio::spawn(async move {
            let Some(client) = connect_within(&url).await else {
                return End::Unanswered("no connection".to_owned());
            };
            // Whoever is not interested has dropped the other end.
            let _ = tell.send(client.cancel_token());
            match tokio::time::timeout(PATIENCE, run(&client, &statements, mode)).await {
                Ok(Ok(end)) => end,
                Ok(Err(e)) => end_of(&e),
                Err(_) => End::Unanswered(format!("no answer within {PATIENCE:?}")),
            }
        });
        Attempt { task, cancel, marker: marker(change) }
    }

    pub(super) async fn end(self) -> End {
        self.task.await.unwrap()
    }

    /// As Ctrl-C in psql does.
    pub(super) async fn cancel_statement(&mut self) {
        if let Ok(token) = (&mut self.cancel).await {
            // A node that is gone has nothing to cancel.
            let _ = token.cancel_query(NoTls).await;
        }
    }

    /// `CANCEL`, `PAUSE` or `RESUME JOB`, as soon as there is a job; false where it has ended or can't be told so.
    pub(super) async fn tell_job(&self, client: &Client, word: &str) -> bool {
        let begun = Instant::now();
        while !self.task.is_finished() || begun.elapsed() < Duration::from_secs(1) {
            let sql = format!("{} AND state IN ('queued', 'running', 'paused')", jobs(&self.marker));
            let Ok(found) = texts(client, &sql).await else { return false };
            if let Some(job) = found.first() {
                return client.batch_execute(&format!("{word} JOB {}", job[0])).await.is_ok();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

async fn run(client: &Client, statements: &[String], mode: Mode) -> Result<End, Error> {
    match (statements, mode) {
        ([statement], Mode::Wait) => client.batch_execute(statement).await.map(|()| End::Done),
        ([statement], Mode::Async) => {
            client.batch_execute("SET schema_change_mode = 'async'").await?;
            client.batch_execute(statement).await.map(|()| End::Deferred)
        }
        ([statement], Mode::Scheduled(after)) => {
            let when = format!("SELECT clock_timestamp() + interval '{} ms'", after.as_millis());
            let when = &texts(client, &when).await?[0][0];
            let scheduled = format!("{statement} AT TIMESTAMP '{when}'");
            client.batch_execute(&scheduled).await.map(|()| End::Deferred)
        }
        (statements, _) => {
            client.batch_execute("BEGIN").await?;
            for statement in statements {
                client.batch_execute(statement).await?;
            }
            client.batch_execute("COMMIT").await.map(|()| End::Done)
        }
    }
}

fn end_of(error: &Error) -> End {
    let Some(db) = error.as_db_error() else { return End::Unanswered(error.to_string()) };
    let (code, message) = (db.code().code().to_owned(), db.message().to_owned());
    let is_open = code == "40003" || code == "40001" || code.starts_with("57P") || code.starts_with("08");
    if is_open { End::Unanswered(format!("{code}: {message}")) } else { End::Refused { code, message } }
}

/// The jobs of a change, without those that tidy up behind it.
fn jobs(marker: &str) -> String {
    format!(
        "SELECT job_id, state, error FROM meridian.jobs
         WHERE kind <> 'clean' AND position('{marker}' in description) > 0"
    )
}

/// Makes a change of the same table that changes nothing. Whatever was on its way before is over, or will never be,
/// once that is in force: activations are announced one after the other, and changes of one table take turns.
pub(super) async fn outwait(client: &Client, table: &str) -> bool {
    let sql = format!("ALTER TABLE {table} ALTER COLUMN id SET DEFAULT 0");
    matches!(tokio::time::timeout(PATIENCE, client.batch_execute(&sql)).await, Ok(Ok(())))
}

/// How the job of a change ended. `None` while it has not, and where there is none.
pub(super) async fn state(client: &Client, change: &Change) -> Result<Option<Resolution>, Error> {
    let found = texts(client, &jobs(&marker(change))).await?;
    Ok(found.last().and_then(|job| match job[1].as_str() {
        "succeeded" => Some(Resolution::Succeeded { is_answered: false }),
        "failed" => Some(Resolution::Failed { code: None, message: job[2].clone() }),
        "cancelled" => Some(Resolution::Cancelled),
        _ => None,
    }))
}
