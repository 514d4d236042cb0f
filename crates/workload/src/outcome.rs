//! What became of a transaction.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What became of a transaction, as far as the client can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Committed.
    Ok,
    /// Certainly not.
    Failed,
    /// Either.
    Unknown,
}

/// Why a transaction did not end well, and what that says about its outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// `Failed` or `Unknown`.
    pub outcome: Outcome,
    /// The SQLSTATE, `timeout`, or `connection`.
    pub code: String,
    /// Whether the connection is of no more use.
    pub is_broken: bool,
}

impl Failure {
    /// Nothing came in time. The connection may still answer the old question, so it is given up.
    pub(crate) fn timeout(at_commit: bool) -> Failure {
        Failure { outcome: undecided(at_commit), code: "timeout".into(), is_broken: true }
    }

    /// An error of the server or of the connection.
    pub(crate) fn of(error: &Error, at_commit: bool) -> Failure {
        let Some(code) = error.code() else {
            return Failure { outcome: undecided(at_commit), code: "connection".into(), is_broken: true };
        };
        let outcome = match at_commit && leaves_open(code) {
            true => Outcome::Unknown,
            false => Outcome::Failed,
        };
        Failure { outcome, code: code.code().to_string(), is_broken: error.is_closed() }
    }
}

fn undecided(at_commit: bool) -> Outcome {
    if at_commit { Outcome::Unknown } else { Outcome::Failed }
}

/// Codes in answer to COMMIT that do not say that the transaction was rolled back: the outcome is unknown by the code's
/// own meaning, the connection to somewhere broke, the server is going down, or it does not know what went wrong.
fn leaves_open(code: &SqlState) -> bool {
    let code = code.code();
    code == "40003" || ["08", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_it_was_rolled_back_is_certain() {
        for code in ["40003", "08006", "57P01", "57014", "58030", "XX000"] {
            assert!(leaves_open(&SqlState::from_code(code)), "{code}");
        }
        for code in ["40001", "40P01", "23505", "25P02", "53300"] {
            assert!(!leaves_open(&SqlState::from_code(code)), "{code}");
        }
        assert_eq!(Failure::timeout(true).outcome, Outcome::Unknown);
        assert_eq!(Failure::timeout(false).outcome, Outcome::Failed);
    }
}
