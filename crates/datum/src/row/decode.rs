//! Reading rows.

use std::sync::Arc;

use crate::array::{ArrayValue, Dimension, MAX_DIMENSIONS};
use crate::column::{Column, IntKind};
use crate::datum::Datum;
use crate::decimal::{Decimal, MAX_SCALE};
use crate::error::Result;
use crate::interval::Interval;
use crate::row::{
    TAG_BIG_DECIMAL, TAG_BITS, TAG_BYTES, TAG_CHAR, TAG_DECIMAL, TAG_FALSE, TAG_FLOAT, TAG_INT, TAG_INTERVAL,
    TAG_NESTED, TAG_NULL, TAG_TRUE, TAG_UUID, VERSION, corrupt,
};
use crate::types::DataType;

/// Decodes some columns of encoded rows.
#[derive(Clone, Debug)]
pub struct RowDecoder {
    /// Ascending by identifier.
    wanted: Vec<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    id: u32,
    data_type: DataType,
    /// Its index in the output.
    at: usize,
    /// The value where the row does not have it.
    missing: Datum,
}

/// Most values a list may claim (PostgreSQL's limit on an array's elements).
const MAX_VALUES: usize = (1 << 27) - 1;

/// Most blanks a string may end in (PostgreSQL's limit on the length of `char(n)`).
const MAX_BLANKS: usize = 10 * 1024 * 1024;

/// A cursor over encoded fields.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            value |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("a varint is too long"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.rest.len() {
            return Err(corrupt("it ends too early"));
        }
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = usize::try_from(self.varint()?).map_err(|_| corrupt("a length is too great"))?;
        self.take(n)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| corrupt("a string is not UTF-8"))
    }

    fn skip(&mut self, tag: u64) -> Result<()> {
        match tag {
            TAG_FALSE | TAG_TRUE | TAG_NULL => {}
            TAG_INT => {
                self.varint()?;
            }
            TAG_FLOAT => {
                let n = self.byte()?;
                self.take(usize::from(n))?;
            }
            TAG_BYTES | TAG_BIG_DECIMAL | TAG_NESTED => {
                self.bytes()?;
            }
            TAG_DECIMAL => {
                self.varint()?;
                self.varint()?;
            }
            TAG_CHAR => {
                self.varint()?;
                self.bytes()?;
            }
            TAG_INTERVAL => {
                for _ in 0..3 {
                    self.varint()?;
                }
            }
            TAG_UUID => {
                self.take(16)?;
            }
            _ => return Err(corrupt("a tag is unknown")),
        }
        Ok(())
    }

    fn decimal(&mut self) -> Result<Decimal> {
        let scale = u32::try_from(self.varint()?).ok().filter(|s| *s <= MAX_SCALE);
        let scale = scale.ok_or_else(|| corrupt("a scale is too great"))?;
        Ok(Decimal::from_parts(i128::from(self.zigzag()?), scale))
    }

    fn big_decimal(&mut self) -> Result<Decimal> {
        let mut inner = Cursor { rest: self.bytes()? };
        match inner.byte()? {
            b'n' => Ok(Decimal::NAN),
            b'+' => Ok(Decimal::INFINITY),
            b'-' => Ok(Decimal::NEGATIVE_INFINITY),
            b'f' => {
                let scale = u32::try_from(inner.varint()?).ok().filter(|s| *s <= MAX_SCALE);
                let scale = scale.ok_or_else(|| corrupt("a scale is too great"))?;
                Ok(Decimal::from_coefficient_bytes(inner.rest, scale))
            }
            _ => Err(corrupt("a numeric's class is unknown")),
        }
    }

    /// Reads the payload of a field as a value of the type.
    fn value(&mut self, tag: u64, data_type: &DataType) -> Result<Datum> {
        let small = |v: i64| i32::try_from(v).map_err(|_| corrupt("a field is out of its type's range"));
        Ok(match (tag, data_type) {
            (TAG_NULL, _) => Datum::Null,
            (TAG_FALSE, _) => Datum::Bool(false),
            (TAG_TRUE, _) => Datum::Bool(true),
            (TAG_INT, DataType::Date) => Datum::Date(small(self.zigzag()?)?),
            (TAG_INT, DataType::Time) => Datum::Time(self.zigzag()?),
            (TAG_INT, DataType::Timestamp) => Datum::Timestamp(self.zigzag()?),
            (TAG_INT, DataType::TimestampTz) => Datum::TimestampTz(self.zigzag()?),
            (TAG_INT, _) => Datum::Int(self.zigzag()?),
            (TAG_FLOAT, _) => match self.byte()? {
                4 => Datum::Float4(f32::from_le_bytes(
                    self.take(4)?.try_into().expect("four bytes were taken"),
                )),
                8 => Datum::Float8(f64::from_le_bytes(
                    self.take(8)?.try_into().expect("eight bytes were taken"),
                )),
                _ => return Err(corrupt("a float has an odd length")),
            },
            (TAG_BYTES, DataType::Bytea) => Datum::Bytea(self.bytes()?.into()),
            (TAG_CHAR, _) => {
                let blanks = usize::try_from(self.varint()?).ok().filter(|n| *n <= MAX_BLANKS);
                let blanks = blanks.ok_or_else(|| corrupt("a string has too many blanks"))?;
                Datum::Char(padded(self.text()?, blanks))
            }
            (TAG_BYTES, _) => Datum::Text(self.text()?.into()),
            (TAG_DECIMAL, _) => Datum::Numeric(self.decimal()?),
            (TAG_BIG_DECIMAL, _) => Datum::Numeric(self.big_decimal()?),
            (TAG_INTERVAL, _) => {
                Datum::Interval(Interval::new(small(self.zigzag()?)?, small(self.zigzag()?)?, self.zigzag()?))
            }
            (TAG_UUID, _) => Datum::Uuid(self.take(16)?.try_into().expect("sixteen bytes were taken")),
            (TAG_NESTED, DataType::Record) => {
                Datum::Record(read_natural(&mut Cursor { rest: self.bytes()? })?.into())
            }
            (TAG_NESTED, t) => {
                let element = t.element().ok_or_else(|| corrupt("an array in a column of another type"))?;
                Datum::Array(Arc::new(read_array(&mut Cursor { rest: self.bytes()? }, element)?))
            }
            _ => return Err(corrupt("a tag is unknown")),
        })
    }

    /// Pushes the payload onto a column, without a datum between where the column is of machine values or text.
    fn push(&mut self, tag: u64, data_type: &DataType, column: &mut Column) -> Result<()> {
        match (tag, column) {
            (TAG_INT, Column::Int(kind, v)) => {
                let value = self.zigzag()?;
                if *kind == IntKind::Date && i32::try_from(value).is_err() {
                    return Err(corrupt("a field is out of its type's range"));
                }
                v.push(Some(value));
            }
            (TAG_BYTES, Column::Text(v)) => v.push(Some(self.text()?)),
            (TAG_NULL, column) => column.push_null(),
            (TAG_FALSE, Column::Bool(v)) => v.push(Some(false)),
            (TAG_TRUE, Column::Bool(v)) => v.push(Some(true)),
            (TAG_FLOAT, Column::Float8(v)) => {
                if self.byte()? != 8 {
                    return Err(corrupt("a float has an odd length"));
                }
                v.push(Some(f64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken"))));
            }
            (_, Column::Datum(v)) => v.push(self.value(tag, data_type)?),
            _ => return Err(corrupt("a field is of another type than its column")),
        }
        Ok(())
    }
}

fn padded(text: &str, blanks: usize) -> Arc<str> {
    if blanks == 0 {
        return text.into();
    }
    let mut s = String::with_capacity(text.len() + blanks);
    s.push_str(text);
    s.extend(std::iter::repeat_n(' ', blanks));
    s.into()
}

fn read_array(cursor: &mut Cursor<'_>, element: DataType) -> Result<ArrayValue> {
    let count = cursor.varint()? as usize;
    if count > MAX_DIMENSIONS {
        return Err(corrupt("an array has too many dimensions"));
    }
    let mut dimensions = Vec::with_capacity(count);
    let mut product = 1i64;
    for _ in 0..count {
        let (len, lower) = (cursor.zigzag()?, cursor.zigzag()?);
        let (Ok(len), Ok(lower)) = (i32::try_from(len), i32::try_from(lower)) else {
            return Err(corrupt("an array's bounds are out of range"));
        };
        product = product.saturating_mul(i64::from(len));
        dimensions.push(Dimension { len, lower });
    }
    let elements = read_list(cursor, |_| element.clone())?;
    if !elements.is_empty() && product != elements.len() as i64 {
        return Err(corrupt("an array's dimensions do not count its elements"));
    }
    Ok(ArrayValue::with_dimensions(element.clone(), dimensions, elements))
}

/// Reads what `encode_values` wrote; `type_of` gives the type of each place.
fn read_list(cursor: &mut Cursor<'_>, type_of: impl Fn(usize) -> DataType) -> Result<Vec<Datum>> {
    let len = usize::try_from(cursor.varint()?).map_err(|_| corrupt("a length is too great"))?;
    if len > MAX_VALUES {
        return Err(corrupt("a length is too great"));
    }
    let mut values = vec![Datum::Null; len];
    let mut at = 0usize;
    while !cursor.rest.is_empty() {
        let head = cursor.varint()?;
        at += (head >> TAG_BITS) as usize;
        let slot =
            at.checked_sub(1).and_then(|i| values.get_mut(i)).ok_or_else(|| corrupt("a list overruns"))?;
        *slot = cursor.value(head & ((1 << TAG_BITS) - 1), &type_of(at - 1))?;
    }
    Ok(values)
}

/// Values of a row whose types are not recorded: what their tags say.
fn read_natural(cursor: &mut Cursor<'_>) -> Result<Vec<Datum>> {
    read_list(cursor, |_| DataType::Text)
}

/// Decodes a list of values of the given types; the inverse of `encode_values`.
pub fn decode_values(bytes: &[u8], types: &[DataType]) -> Result<Vec<Datum>> {
    let values = read_list(&mut Cursor { rest: bytes }, |i| types.get(i).cloned().unwrap_or(DataType::Text))?;
    if values.len() == types.len() {
        Ok(values)
    } else {
        Err(corrupt("a list has another length than expected"))
    }
}

impl RowDecoder {
    /// A decoder of columns `(identifier, type, index in the output)`.
    pub fn new(wanted: impl IntoIterator<Item = (u32, DataType, usize)>) -> Self {
        let wanted = wanted.into_iter();
        let mut wanted: Vec<Wanted> =
            wanted.map(|(id, data_type, at)| Wanted { id, data_type, at, missing: Datum::Null }).collect();
        wanted.sort_by_key(|w| w.id);
        RowDecoder { wanted }
    }

    /// What columns have, by identifier, in rows that were written before the columns were there.
    #[must_use]
    pub fn with_missing(mut self, missing: impl Fn(u32) -> Option<Datum>) -> Self {
        for wanted in &mut self.wanted {
            wanted.missing = missing(wanted.id).unwrap_or_default();
        }
        self
    }

    /// Walks the row's fields beside the wanted columns, both ascending.
    fn walk<'a, 'd>(
        &'d self,
        row: &'a [u8],
        mut found: impl FnMut(&'d Wanted, u64, &mut Cursor<'a>) -> Result<()>,
        mut absent: impl FnMut(&'d Wanted),
    ) -> Result<()> {
        let mut cursor = Cursor { rest: row };
        if cursor.byte()? != VERSION {
            return Err(corrupt("its version is unknown"));
        }
        let mut wanted = self.wanted.iter();
        let mut next = wanted.next();
        let mut id = 0u64;
        while let Some(column) = next {
            if cursor.rest.is_empty() {
                absent(column);
                next = wanted.next();
                continue;
            }
            let head = cursor.varint()?;
            let tag = head & ((1 << TAG_BITS) - 1);
            id = id.checked_add(head >> TAG_BITS).ok_or_else(|| corrupt("a column identifier overflows"))?;
            while let Some(column) = next
                && u64::from(column.id) < id
            {
                absent(column);
                next = wanted.next();
            }
            match next {
                Some(column) if u64::from(column.id) == id => {
                    found(column, tag, &mut cursor)?;
                    next = wanted.next();
                }
                Some(_) => cursor.skip(tag)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Pushes one value per wanted column onto `columns`; for an absent one what is missing, which is NULL unless said
    /// otherwise.
    pub fn decode_columns(&self, row: &[u8], columns: &mut [Column]) -> Result<()> {
        // Does not allocate unless something is absent.
        let mut missing = Vec::new();
        self.walk(
            row,
            |column, tag, cursor| cursor.push(tag, &column.data_type, &mut columns[column.at]),
            |column| missing.push(column),
        )?;
        for column in missing {
            columns[column.at].push_ref(&column.missing);
        }
        Ok(())
    }

    /// Sets one value per wanted column in `values`, in the same way.
    pub fn decode_datums(&self, row: &[u8], values: &mut [Datum]) -> Result<()> {
        for column in &self.wanted {
            values[column.at].clone_from(&column.missing);
        }
        self.walk(
            row,
            |column, tag, cursor| {
                values[column.at] = cursor.value(tag, &column.data_type)?;
                Ok(())
            },
            |_| {},
        )
    }
}
