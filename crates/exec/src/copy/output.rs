//! COPY ... TO STDOUT.

use meridian_datum::{Batch, Column, DataType, Datum, EvalContext, write_binary, write_text};
use meridian_plan::ddl::{CopyFormat, CopyKind};

use super::binary;

/// Writes rows as lines.
#[derive(Debug)]
pub struct CopyOut<'a> {
    format: &'a CopyFormat,
    types: &'a [DataType],
    field: Vec<u8>,
}

impl<'a> CopyOut<'a> {
    /// A writer of rows of these types.
    pub fn new(format: &'a CopyFormat, types: &'a [DataType]) -> Self {
        CopyOut { format, types, field: Vec::new() }
    }

    /// What the stream begins with: the line of column names, where the format wants one.
    pub fn header(&mut self, names: &[String], out: &mut Vec<u8>) {
        if self.format.kind == CopyKind::Binary {
            return binary::write_header(out);
        }
        if !self.format.header {
            return;
        }
        for (i, name) in names.iter().enumerate() {
            self.delimit(i, out);
            self.put(name.as_bytes(), names.len() == 1, out);
        }
        out.push(b'\n');
    }

    /// What the stream ends with.
    pub fn trailer(&self, out: &mut Vec<u8>) {
        if self.format.kind == CopyKind::Binary {
            binary::write_trailer(out);
        }
    }

    /// The line of one row.
    pub fn row(&mut self, context: &EvalContext, batch: &Batch, row: usize, out: &mut Vec<u8>) {
        if self.format.kind == CopyKind::Binary {
            return self.tuple(batch, row, out);
        }
        let alone = batch.columns().len() == 1;
        for (i, (column, ty)) in batch.columns().iter().zip(self.types).enumerate() {
            self.delimit(i, out);
            match column {
                Column::Text(v) => match v.get(row) {
                    Some(s) => self.put(s.as_bytes(), alone, out),
                    None => out.extend_from_slice(self.format.null.as_bytes()),
                },
                _ => {
                    let value = column.get(row);
                    if matches!(value, Datum::Null) {
                        out.extend_from_slice(self.format.null.as_bytes());
                        continue;
                    }
                    let mut field = std::mem::take(&mut self.field);
                    field.clear();
                    write_text(context, &value, ty, &mut field);
                    self.put(&field, alone, out);
                    self.field = field;
                }
            }
        }
        out.push(b'\n');
    }

    /// A row of the binary format.
    fn tuple(&mut self, batch: &Batch, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.types.len() as i16).to_be_bytes());
        for (column, ty) in batch.columns().iter().zip(self.types) {
            let value = column.get(row);
            if matches!(value, Datum::Null) {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
            self.field.clear();
            write_binary(&value, ty, &mut self.field);
            out.extend_from_slice(&(self.field.len() as i32).to_be_bytes());
            out.extend_from_slice(&self.field);
        }
    }

    fn delimit(&self, column: usize, out: &mut Vec<u8>) {
        if column > 0 {
            out.push(self.format.delimiter);
        }
    }

    fn put(&self, field: &[u8], alone: bool, out: &mut Vec<u8>) {
        match self.format.kind {
            CopyKind::Csv => self.put_csv(field, alone, out),
            _ => self.put_escaped(field, out),
        }
    }

    fn put_escaped(&self, field: &[u8], out: &mut Vec<u8>) {
        for &b in field {
            let letter = match b {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                b'\\' => b'\\',
                b if b == self.format.delimiter => b,
                b => {
                    out.push(b);
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', letter]);
        }
    }

    fn put_csv(&self, field: &[u8], alone: bool, out: &mut Vec<u8>) {
        let f = self.format;
        let special = |b: &u8| *b == f.delimiter || *b == f.quote || *b == b'\n' || *b == b'\r';
        let needs_quotes =
            field == f.null.as_bytes() || field.iter().any(special) || (alone && field == b"\\.");
        if !needs_quotes {
            out.extend_from_slice(field);
            return;
        }
        out.push(f.quote);
        for &b in field {
            if b == f.quote || b == f.escape {
                out.push(f.escape);
            }
            out.push(b);
        }
        out.push(f.quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: CopyKind, values: &[Datum]) -> String {
        let (delimiter, null) = if kind == CopyKind::Csv { (b',', "") } else { (b'\t', "\\N") };
        let format =
            CopyFormat { kind, delimiter, null: null.to_owned(), header: false, quote: b'"', escape: b'"' };
        let types = vec![DataType::Text; values.len()];
        let mut batch = Batch::with_capacity(&types, 1);
        batch.push_row(values);
        let mut out = Vec::new();
        CopyOut::new(&format, &types).row(&EvalContext::default(), &batch, 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_escaped_so_that_they_read_back() {
        let values = ["a\tb", "c\\d", "e\nf", "", "g,h", "i\"j"].map(Datum::from);
        let mut values = values.to_vec();
        values.push(Datum::Null);
        assert_eq!(line(CopyKind::Text, &values), "a\\tb\tc\\\\d\te\\nf\t\tg,h\ti\"j\t\\N\n");
        assert_eq!(line(CopyKind::Csv, &values), "a\tb,c\\d,\"e\nf\",\"\",\"g,h\",\"i\"\"j\",\n");
    }
}
