//! The one error that reaches a SQL client.
//!
//! The fields are those of the wire protocol's ErrorResponse. They live behind one pointer, so that a `Result` of a
//! scalar function stays as small as its value: errors are rare and may allocate, values are not.
//! Messages are PostgreSQL's, word for word: drivers and ORMs match on them.

use std::borrow::Cow;
use std::fmt;

use crate::state::SqlState;

/// A result whose error goes to the client.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// An error with its SQLSTATE and the optional fields of PostgreSQL's ErrorResponse.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlError(Box<SqlErrorFields>);

/// What a [`SqlError`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlErrorFields {
    /// The condition.
    pub state: SqlState,
    /// The primary message: lower case, no full stop.
    pub message: Cow<'static, str>,
    /// A second sentence with particulars.
    pub detail: Option<Cow<'static, str>>,
    /// What the user might do.
    pub hint: Option<Cow<'static, str>>,
    /// Where in the statement's text, in characters from 1.
    pub position: Option<u32>,
    /// The schema of the object concerned.
    pub schema: Option<String>,
    /// The table concerned.
    pub table: Option<String>,
    /// The column concerned.
    pub column: Option<String>,
    /// The data type concerned.
    pub data_type: Option<String>,
    /// The constraint violated.
    pub constraint: Option<String>,
}

impl std::ops::Deref for SqlError {
    type Target = SqlErrorFields;

    fn deref(&self) -> &SqlErrorFields {
        &self.0
    }
}

impl fmt::Debug for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlError({}: {}", self.state, self.message)?;
        if let Some(d) = &self.detail {
            write!(f, "; {d}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}

impl SqlError {
    /// An error with a state and a message.
    #[cold]
    pub fn new(state: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        SqlError(Box::new(SqlErrorFields {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
        }))
    }

    /// Adds a detail.
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the 1-based character position in the statement's text.
    pub fn with_position(mut self, position: u32) -> Self {
        self.0.position = Some(position);
        self
    }

    /// Sets the position unless an inner error already knew a better one.
    pub fn or_position(mut self, position: u32) -> Self {
        self.0.position.get_or_insert(position);
        self
    }

    /// Names the table concerned.
    pub fn with_table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        self.0.schema = Some(schema.into());
        self.0.table = Some(table.into());
        self
    }

    /// Names the column concerned.
    pub fn with_column(mut self, column: impl Into<String>) -> Self {
        self.0.column = Some(column.into());
        self
    }

    /// Names the data type concerned.
    pub fn with_data_type(mut self, data_type: impl Into<String>) -> Self {
        self.0.data_type = Some(data_type.into());
        self
    }

    /// Names the constraint violated.
    pub fn with_constraint(mut self, constraint: impl Into<String>) -> Self {
        self.0.constraint = Some(constraint.into());
        self
    }

    /// `0A000`: something PostgreSQL has and this database has not. `what` reads like "COPY FROM PROGRAM".
    #[cold]
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported"))
    }

    /// `XX000`: a broken invariant that must not take the process down.
    #[cold]
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }

    /// `22012`.
    #[cold]
    pub fn division_by_zero() -> Self {
        Self::new(SqlState::DIVISION_BY_ZERO, "division by zero")
    }

    /// `22003` of a named type: "integer out of range".
    #[cold]
    pub fn out_of_range(type_name: &str) -> Self {
        Self::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
    }

    /// `22003` of a literal: `value "99999999999" is out of range for type integer`.
    #[cold]
    pub fn literal_out_of_range(text: &str, type_name: &str) -> Self {
        let message = format!("value \"{text}\" is out of range for type {type_name}");
        Self::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
    }

    /// `22003`: "value out of range: overflow" of the float types.
    #[cold]
    pub fn float_overflow() -> Self {
        Self::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
    }

    /// `22003`: "value out of range: underflow" of the float types.
    #[cold]
    pub fn float_underflow() -> Self {
        Self::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow")
    }

    /// `22P02`: `invalid input syntax for type integer: "x"`.
    #[cold]
    pub fn invalid_text(type_name: &str, text: &str) -> Self {
        let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
        Self::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
    }

    /// `22007`: the same wording for the date and time types.
    #[cold]
    pub fn invalid_datetime(type_name: &str, text: &str) -> Self {
        let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
        Self::new(SqlState::INVALID_DATETIME_FORMAT, message)
    }

    /// `22008`: `date/time field value out of range: "2021-13-01"`.
    #[cold]
    pub fn datetime_field_out_of_range(text: &str) -> Self {
        let message = format!("date/time field value out of range: \"{text}\"");
        Self::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
    }

    /// `22008` of a computed value: "timestamp out of range".
    #[cold]
    pub fn datetime_out_of_range(type_name: &str) -> Self {
        Self::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{type_name} out of range"))
    }

    /// `22P03`.
    #[cold]
    pub fn invalid_binary(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
    }

    /// `22023`.
    #[cold]
    pub fn invalid_parameter(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SqlState::INVALID_PARAMETER_VALUE, message)
    }

    /// `22001`: "value too long for type character varying(3)".
    #[cold]
    pub fn value_too_long(type_name: &str) -> Self {
        let message = format!("value too long for type {type_name}");
        Self::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, message)
    }

    /// `42846`: "cannot cast type date to integer".
    #[cold]
    pub fn cannot_cast(from: &str, to: &str) -> Self {
        Self::new(SqlState::CANNOT_COERCE, format!("cannot cast type {from} to {to}"))
    }
}
