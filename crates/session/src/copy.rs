//! COPY FROM STDIN as the session sees it: data between the statement and its completion.

use meridian_datum::{SqlError, SqlState};

use crate::api::{CommandTag, Flow, ResultSink};
use crate::session::Session;

fn not_copying() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "COPY data was sent without COPY")
}

impl Session {
    /// CopyData.
    ///
    /// # Errors
    /// What the rows fail with. In a simple query the edge then sends the error and ReadyForQuery, and drops the rest of
    /// the data; in the extended protocol it skips to Sync.
    pub async fn copy_data(&mut self, data: &[u8]) -> Result<(), SqlError> {
        let Some(copy) = &mut self.copy else { return Err(not_copying()) };
        let result = copy.input.feed(data).await;
        if let Err(e) = &result {
            self.note_error(e);
            self.fail().await;
            self.note_idle();
        }
        result
    }

    /// CopyDone: completes the COPY and goes on with the query string.
    ///
    /// # Errors
    /// What the last rows or the following statements fail with.
    pub async fn copy_done(&mut self, sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        let Some(copy) = self.copy.take() else { return Err(not_copying()) };
        let (rest, is_simple) = (copy.rest, copy.is_simple);
        let result = match Box::pin(copy.input.finish()).await {
            Ok(rows) => {
                self.complete(sink, CommandTag::Copy(rows));
                if rest.is_empty() { Ok(Flow::Done) } else { Box::pin(self.run_several(rest, sink)).await }
            }
            Err(e) => Err(e),
        };
        if is_simple {
            return self.end_request(result, sink).await;
        }
        if let Err(e) = &result {
            self.note_error(e);
            self.fail().await;
        }
        result
    }

    /// CopyFail: always an error.
    ///
    /// # Errors
    /// 57014 with the client's words.
    pub async fn copy_fail(&mut self, message: &str, _sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        self.copy = None;
        self.fail().await;
        self.note_idle();
        Err(SqlError::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {message}")))
    }
}
