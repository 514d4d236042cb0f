//! Rows on the wire.

use bytes::{BufMut, BytesMut};
use meridian_datum::{
    Batch, Column, DataType, EvalContext, IntKind, SqlError, SqlState, write_binary, write_text,
};
use meridian_session::{Format, RowDescription};

/// Appends a RowDescription.
pub fn row_description(out: &mut BytesMut, rows: &RowDescription) {
    let start = begin(out, b'T');
    out.put_i16(rows.fields.len() as i16);
    for field in &rows.fields {
        cstring(out, &field.name);
        out.put_u32(field.table_oid);
        out.put_i16(field.column_number);
        out.put_u32(field.data_type.oid());
        out.put_i16(field.data_type.len());
        out.put_i32(field.data_type.type_modifier());
        out.put_i16(match field.format {
            Format::Text => 0,
            Format::Binary => 1,
        });
    }
    end(out, start);
}

/// Appends one DataRow for each row of `batch`, which has a column for each of `rows`' fields.
///
/// # Errors
/// A row is larger than a message may be.
pub fn data_rows(
    out: &mut BytesMut,
    rows: &RowDescription,
    batch: &Batch,
    context: &EvalContext,
) -> Result<(), SqlError> {
    debug_assert_eq!(rows.fields.len(), batch.columns().len());
    for row in 0..batch.len() {
        let start = begin(out, b'D');
        out.put_i16(rows.fields.len() as i16);
        for (field, column) in rows.fields.iter().zip(batch.columns()) {
            if column.is_null(row) {
                out.put_i32(-1);
                continue;
            }
            let length_at = out.len();
            out.put_i32(0);
            match (field.format, column) {
                (Format::Text, Column::Int(IntKind::Int, values)) if is_plain_integer(&field.data_type) => {
                    integer(out, values.get(row).unwrap_or_default());
                }
                (Format::Text, Column::Text(values)) => out.put_slice(values.bytes_at(row)),
                (Format::Text, column) => write_text(context, &column.get(row), &field.data_type, out),
                (Format::Binary, column) => write_binary(&column.get(row), &field.data_type, out),
            }
            let length = out.len() - length_at - 4;
            out[length_at..length_at + 4].copy_from_slice(&(length as i32).to_be_bytes());
        }
        if out.len() - start > i32::MAX as usize {
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "row is too large for the protocol"));
        }
        end(out, start);
    }
    Ok(())
}

/// Types of the integer datum that print as digits; an object id may print as a name.
fn is_plain_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int2 | DataType::Int4 | DataType::Int8)
}

/// Decimal digits without the formatting machinery: most columns of most results are integers.
fn integer(out: &mut BytesMut, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.put_slice(&digits[at..]);
}

/// Opens a message; [`end`] fills in its length.
pub(crate) fn begin(out: &mut BytesMut, tag: u8) -> usize {
    out.put_u8(tag);
    let start = out.len();
    out.put_i32(0);
    start
}

/// Closes the message that [`begin`] opened.
pub(crate) fn end(out: &mut BytesMut, start: usize) {
    let length = (out.len() - start) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a message without a body.
pub(crate) fn empty(out: &mut BytesMut, tag: u8) {
    out.put_u8(tag);
    out.put_i32(4);
}

/// Appends a C string.
pub(crate) fn cstring(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_print_like_the_standard_library() {
        for value in [0, 1, -1, 9, 10, -10, 12345, i64::MAX, i64::MIN] {
            let mut out = BytesMut::new();
            integer(&mut out, value);
            assert_eq!(&out[..], value.to_string().as_bytes());
        }
    }
}
