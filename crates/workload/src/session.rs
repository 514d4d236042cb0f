//! One client: a connection that moves to the next address when it breaks, and transactions on it.

use std::sync::Arc;
use std::time::Duration;

use meridian_history::{EventKind, RecordedOp};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::outcome::{Failure, Outcome};
use crate::place::Place;
use crate::recorder::Recorder;
use crate::workload::{Answers, Plan, Workload};

/// A client waits so long for a connection, and before it tries the next address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What one transaction became.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) failure: Option<Failure>,
    pub(crate) answers: Option<Answers>,
}

impl Ended {
    fn badly(failure: Failure) -> Ended {
        Ended { outcome: failure.outcome, failure: Some(failure), answers: None }
    }
}

pub(crate) struct Session {
    places: Vec<Arc<dyn Place>>,
    at: usize,
    client: Option<Client>,
    /// A new one after each unknown outcome: such a transaction may take effect while others follow.
    process: u64,
    processes: u64,
    limit: Duration,
}

impl Session {
    /// Client `number` of `processes`, each of which starts at another address.
    pub(crate) fn new(places: &[Arc<dyn Place>], number: u64, processes: u64, limit: Duration) -> Session {
        let at = number as usize % places.len();
        Session { places: places.to_vec(), at, client: None, process: number, processes, limit }
    }

    /// Connects where it is not connected. False when the address does not answer; the next one is tried next time.
    pub(crate) async fn ready(&mut self) -> bool {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return true;
        }
        self.client = match timeout(CONNECT_TIMEOUT, self.places[self.at].connect()).await {
            Ok(Ok(client)) => Some(client),
            Ok(Err(_)) | Err(_) => {
                self.at = (self.at + 1) % self.places.len();
                tokio::time::sleep(CONNECT_PAUSE).await;
                None
            }
        };
        self.client.is_some()
    }

    /// Runs a plan as one transaction. The session is `ready`.
    pub(crate) async fn run(
        &mut self,
        workload: &dyn Workload,
        plan: &Plan,
        recorder: Option<&Recorder>,
    ) -> Ended {
        let client = self.client.as_ref().expect("the session is ready");
        let recorder = recorder.filter(|_| !plan.operations.is_empty());
        let record = |kind, operations: &[RecordedOp]| {
            if let Some(recorder) = recorder {
                recorder.event(kind, self.process, operations);
            }
        };
        record(EventKind::Invoke, &plan.operations);
        let ended = transaction(client, workload, plan, self.limit).await;
        let answers = ended.answers.as_ref().map_or(&plan.operations, |a| &a.operations);
        match ended.outcome {
            Outcome::Ok => record(EventKind::Ok, answers),
            Outcome::Failed => record(EventKind::Fail, &plan.operations),
            Outcome::Unknown => record(EventKind::Info, &plan.operations),
        }
        if ended.outcome == Outcome::Unknown {
            self.process += self.processes;
        }
        if let Some(failure) = &ended.failure {
            // Also rolls back what a timeout left.
            if failure.is_broken || !self.rolled_back().await {
                self.client = None;
                self.at = (self.at + 1) % self.places.len();
            }
        }
        ended
    }

    async fn rolled_back(&self) -> bool {
        let Some(client) = &self.client else { return false };
        matches!(timeout(self.limit, client.batch_execute("ROLLBACK")).await, Ok(Ok(())))
    }
}

async fn transaction(client: &Client, workload: &dyn Workload, plan: &Plan, limit: Duration) -> Ended {
    let body = async {
        client.batch_execute(if plan.is_read_only { "BEGIN READ ONLY" } else { "BEGIN" }).await?;
        workload.body(client, plan).await
    };
    let answers = match timeout(limit, body).await {
        Err(_) => return Ended::badly(Failure::timeout(false)),
        Ok(Err(error)) => return Ended::badly(Failure::of(&error, false)),
        Ok(Ok(answers)) => answers,
    };
    match timeout(limit, client.batch_execute("COMMIT")).await {
        Err(_) => Ended::badly(Failure::timeout(true)),
        Ok(Err(error)) => Ended::badly(Failure::of(&error, true)),
        Ok(Ok(())) => Ended { outcome: Outcome::Ok, failure: None, answers: Some(answers) },
    }
}
