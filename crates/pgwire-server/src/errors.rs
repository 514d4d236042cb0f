//! Errors and notices on the wire.

use bytes::BytesMut;
use meridian_datum::{SqlError, SqlState};
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

/// Appends an ErrorResponse.
pub(crate) fn write_error(out: &mut BytesMut, severity: &str, error: &SqlError) {
    let message = ErrorResponse::new(fields(severity, error));
    message.encode(out).expect("an error's fields fit into a message");
}

/// Appends a NoticeResponse.
pub(crate) fn write_notice(out: &mut BytesMut, severity: &str, notice: &SqlError) {
    let message = NoticeResponse::new(fields(severity, notice));
    message.encode(out).expect("a notice's fields fit into a message");
}

/// The fields of PostgreSQL's ErrorResponse in its order. Texts are cut at a size that always fits into a message.
fn fields(severity: &str, error: &SqlError) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', error.state.code().to_string()),
        (b'M', clip(&error.message)),
    ];
    let optional = [
        (b'D', error.detail.as_deref()),
        (b'H', error.hint.as_deref()),
        (b's', error.schema.as_deref()),
        (b't', error.table.as_deref()),
        (b'c', error.column.as_deref()),
        (b'd', error.data_type.as_deref()),
        (b'n', error.constraint.as_deref()),
    ];
    fields.extend(optional.into_iter().filter_map(|(tag, text)| Some((tag, clip(text?)))));
    if let Some(position) = error.position {
        fields.push((b'P', position.to_string()));
    }
    fields
}

/// Bytes of one field. The crate's codec refuses backend messages above 30,000 bytes.
const FIELD_BYTES_MAX: usize = 4_000;

/// Field texts are C strings: a NUL would end them early, so it is left out.
fn clip(text: &str) -> String {
    let mut end = text.len().min(FIELD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "")
}

/// `08P01`
pub(crate) fn protocol_violation(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}
