//! Keys for people: shard boundaries in system tables, scrub reports and logs.

use std::fmt;

use crate::{CHILD_MARKER, Decimal, Direction, IndexKey, KeyReader, KeyValue, SystemKey};

/// Shows a user key as a path, `/16/1/7/child/17/1/"a"`, and falls back to escaped bytes where it can't be read. The
/// direction of columns is not in the key, so a tag above `7f` is taken for a descending column, which it always is.
pub struct Pretty<'a>(pub &'a [u8]);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(key) = SystemKey::decode(self.0) {
            return match key {
                SystemKey::Meta { end: Some(end) } => write!(f, "/meta{}", Pretty(end.as_bytes())),
                key => write!(f, "/system/{key:?}"),
            };
        }
        let Ok(IndexKey { table, index, columns }) = IndexKey::parse(self.0) else {
            return write!(f, "/raw/{}", self.0.escape_ascii());
        };
        write!(f, "/{table}/{index}")?;
        columns_of(columns, f)
    }
}

fn columns_of(mut columns: KeyReader<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    while let Some(&tag) = columns.rest().first() {
        let rest = columns.rest();
        if tag == CHILD_MARKER {
            match columns.read_child() {
                Ok(Some((table, index))) => write!(f, "/child/{table}/{index}")?,
                _ => return write!(f, "/raw/{}", rest.escape_ascii()),
            }
            continue;
        }
        let direction = if tag < 0x80 { Direction::Ascending } else { Direction::Descending };
        match columns.read_value(direction) {
            Ok(value) => write_value(&value, f)?,
            Err(_) => return write!(f, "/raw/{}", rest.escape_ascii()),
        }
    }
    Ok(())
}

fn write_value(value: &KeyValue, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        KeyValue::Null => f.write_str("/NULL"),
        KeyValue::Bool(v) => write!(f, "/{v}"),
        KeyValue::Int(v) => write!(f, "/{v}"),
        KeyValue::Float(v) => write!(f, "/{v}"),
        KeyValue::Decimal(v) => write_decimal(v, f),
        KeyValue::Bytes(v) => write!(f, "/\"{}\"", v.escape_ascii()),
        KeyValue::Uuid(v) => write!(f, "/{v:032x}"),
        KeyValue::Int128(v) => write!(f, "/{v}"),
    }
}

fn write_decimal(value: &Decimal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Decimal::NegInfinity => f.write_str("/-Infinity"),
        Decimal::PosInfinity => f.write_str("/Infinity"),
        Decimal::NaN => f.write_str("/NaN"),
        Decimal::Finite { digits, .. } if digits.is_empty() => f.write_str("/0"),
        Decimal::Finite { negative, exponent, digits } => {
            write!(f, "/{}0.", if *negative { "-" } else { "" })?;
            digits.iter().try_for_each(|d| write!(f, "{d}"))?;
            write!(f, "e{exponent}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IndexId, KeyBuilder, Nulls, TableId};

    #[test]
    fn keys_are_shown_as_paths() {
        let mut key = KeyBuilder::index(TableId::new(300), IndexId::new(2));
        key.push_int(-7, Direction::Ascending);
        key.push_bytes(b"a\n", Direction::Descending);
        key.push_null(Direction::Ascending, Nulls::Last);
        key.push_child(TableId::new(17), IndexId::PRIMARY);
        key.push_decimal(&Decimal::finite(true, &[1, 2, 0], 1), Direction::Ascending);
        let bytes = key.finish();
        let shown = Pretty(bytes.as_bytes()).to_string();
        assert_eq!(shown, "/300/2/-7/\"a\\n\"/NULL/child/17/1/-0.12e2");
        let meta = SystemKey::Meta { end: Some(bytes) }.encode();
        assert_eq!(Pretty(meta.as_bytes()).to_string(), format!("/meta{shown}"));
        assert_eq!(Pretty(b"\x01ab").to_string(), "/raw/\\x01ab");
        assert_eq!(Pretty(b"").to_string(), "/raw/");
        assert_eq!(Pretty(b"\x80\x01\x01\x21").to_string(), "/1/1/raw/!");
    }
}
