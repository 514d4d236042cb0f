//! sqllogictest over the Postgres protocol.

use std::path::Path;

use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, Runner};
use tokio_postgres::{Client, SimpleQueryMessage};

/// An error with its SQLSTATE, so that test files can name the code.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct SltError {
    /// The SQLSTATE, or `?????` where the connection failed.
    pub code: String,
    /// The primary message.
    pub message: String,
}

impl From<tokio_postgres::Error> for SltError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => SltError { code: db.code().code().to_string(), message: db.message().to_string() },
            None => SltError { code: "?????".into(), message: error.to_string() },
        }
    }
}

/// A connection of the runner. It reports the engine name `postgresql`, so that files written for several engines run
/// the records that apply to PostgreSQL.
pub struct SltClient {
    client: Client,
}

impl SltClient {
    /// Connects; `url` is a tokio-postgres connection string.
    pub async fn connect(url: &str) -> Result<Self, SltError> {
        Ok(SltClient { client: crate::connect(url).await? })
    }
}

#[async_trait::async_trait]
impl AsyncDB for SltClient {
    type Error = SltError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SltError> {
        let mut rows = Vec::new();
        let mut types = None;
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    types = Some(vec![DefaultColumnType::Any; columns.len()]);
                    rows.clear();
                }
                SimpleQueryMessage::Row(row) => {
                    let values = (0..row.len()).map(|i| match row.get(i) {
                        None => "NULL".to_string(),
                        Some("") => "(empty)".to_string(),
                        Some(text) => text.to_string(),
                    });
                    rows.push(values.collect());
                }
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(match types {
            Some(types) => DBOutput::Rows { types, rows },
            None => DBOutput::StatementComplete(count),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "postgresql"
    }

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &SltError) -> Option<String> {
        Some(error.code.clone())
    }
}

/// The records of a file. SQLite's own files have remarks behind their conditions, which the parser does not know.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Record<DefaultColumnType>>, String> {
    if path.extension().is_none_or(|e| e != "test") {
        return sqllogictest::parse_file(path).map_err(|e| e.to_string());
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let line = |l: &str| match l.split_once(" #") {
        Some((condition, _)) if l.starts_with("onlyif ") || l.starts_with("skipif ") => condition.to_owned(),
        _ => l.to_owned(),
    };
    let plain: Vec<String> = text.lines().map(line).collect();
    let name = path.display().to_string();
    sqllogictest::parse_with_name(&(plain.join("\n") + "\n"), name).map_err(|e| e.to_string())
}

/// SQLite's own files give one value a line, and a hash for more than eight.
pub(crate) async fn sqlite_format<M>(runner: &mut Runner<SltClient, M>) -> Result<(), sqllogictest::TestError>
where
    M: sqllogictest::MakeConnection<Conn = SltClient>,
{
    let mode = sqllogictest::parse::<DefaultColumnType>("control resultmode valuewise\n");
    for record in mode.expect("a control record") {
        runner.run_async(record).await?;
    }
    runner.with_hash_threshold(8);
    Ok(())
}

/// A file with more failures than this is broken as a whole.
const FAILURES_MAX: usize = 100;

/// Runs one file to its end and returns how many records it had.
///
/// # Errors
/// The records that failed, with their places in the file, at most a hundred.
pub async fn run_file(url: &str, path: &Path) -> Result<usize, String> {
    let records = read_file(path)?;
    let url = url.to_string();
    let mut runner = Runner::new(move || {
        let url = url.clone();
        async move { SltClient::connect(&url).await }
    });
    if path.extension().is_some_and(|e| e == "test") {
        sqlite_format(&mut runner).await.map_err(|e| e.display(false).to_string())?;
    }
    let mut count = 0;
    let mut failures = Vec::new();
    for record in records {
        let counted = matches!(record, Record::Statement { .. } | Record::Query { .. });
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        if let Err(error) = runner.run_async(record).await {
            failures.push(error.display(false).to_string());
        }
        count += usize::from(counted);
        if failures.len() >= FAILURES_MAX {
            break;
        }
    }
    if failures.is_empty() { Ok(count) } else { Err(failures.join("\n\n")) }
}
