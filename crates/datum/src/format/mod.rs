//! Values as the wire has them: PostgreSQL's text format (its type input and output functions with ISO dates) and its
//! binary format (the send and receive functions).

use bytes::BufMut;

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::types::DataType;

/// Reads the text form of a type. Lengths and precisions of the type are not applied: see [`crate::cast::cast`].
pub fn parse_text(ctx: &EvalContext, text: &str, data_type: &DataType) -> Result<Datum> {
    let _ = (ctx, text);
    Err(SqlError::unsupported(data_type))
}

/// Writes the text form. NULL writes nothing: the wire has a length of -1 for it.
pub fn write_text<B: BufMut>(ctx: &EvalContext, value: &Datum, data_type: &DataType, out: &mut B) {
    let _ = (ctx, value, data_type, out);
}

/// The text form as a string.
pub fn to_text(ctx: &EvalContext, value: &Datum, data_type: &DataType) -> String {
    let mut out = Vec::new();
    write_text(ctx, value, data_type, &mut out);
    String::from_utf8(out).expect("text output is UTF-8")
}

/// Reads the binary form of a type.
pub fn parse_binary(bytes: &[u8], data_type: &DataType) -> Result<Datum> {
    let _ = bytes;
    Err(SqlError::unsupported(data_type))
}

/// Writes the binary form. NULL writes nothing.
pub fn write_binary<B: BufMut>(value: &Datum, data_type: &DataType, out: &mut B) {
    let _ = (value, data_type, out);
}
