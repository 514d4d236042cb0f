//! Records and fields of the text and CSV formats.

use meridian_datum::{Result, SqlError, SqlState};
use meridian_plan::ddl::{CopyFormat, CopyKind};

/// Takes records out of a byte stream.
#[derive(Debug)]
pub(super) struct Records {
    buffer: Vec<u8>,
    /// Where the next record starts.
    start: usize,
    /// How far the search for its end has come, and whether that is inside quotes.
    scanned: usize,
    in_quotes: bool,
    is_csv: bool,
    quote: u8,
    escape: u8,
}

impl Records {
    pub(super) fn new(format: &CopyFormat) -> Self {
        Records {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            in_quotes: false,
            is_csv: format.kind == CopyKind::Csv,
            quote: format.quote,
            escape: format.escape,
        }
    }

    /// Adds bytes; forgets the records that were taken.
    pub(super) fn feed(&mut self, data: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(data);
    }

    /// Where the next record is, without its end of line. `at_end`: what is left is a record too.
    pub(super) fn next(&mut self, at_end: bool) -> Option<std::ops::Range<usize>> {
        let mut at = self.scanned;
        while at < self.buffer.len() {
            let b = self.buffer[at];
            if self.is_csv {
                if self.in_quotes && b == self.escape && self.escape != self.quote {
                    // The escaped byte may not have arrived yet.
                    if at + 1 >= self.buffer.len() {
                        break;
                    }
                    at += 2;
                    continue;
                }
                if b == self.quote {
                    self.in_quotes = !self.in_quotes;
                }
            } else if b == b'\\' {
                if at + 1 >= self.buffer.len() {
                    break;
                }
                at += 2;
                continue;
            }
            if b == b'\n' && !self.in_quotes {
                return Some(self.take(at, at + 1));
            }
            at += 1;
        }
        self.scanned = at;
        (at_end && self.start < self.buffer.len()).then(|| self.take(self.buffer.len(), self.buffer.len()))
    }

    fn take(&mut self, end: usize, next: usize) -> std::ops::Range<usize> {
        let from = std::mem::replace(&mut self.start, next);
        self.scanned = next;
        let end = if end > from && self.buffer[end - 1] == b'\r' { end - 1 } else { end };
        from..end
    }

    pub(super) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Whether the stream ended inside quotes.
    pub(super) fn is_inside_quotes(&self) -> bool {
        self.in_quotes
    }
}

/// The fields of one record: text with its escapes resolved, `None` for NULL.
#[derive(Debug, Default)]
pub(super) struct Fields {
    text: Vec<u8>,
    ends: Vec<(usize, bool)>,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> Result<Option<&str>> {
        let (end, is_null) = self.ends[index];
        if is_null {
            return Ok(None);
        }
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        std::str::from_utf8(&self.text[start..end])
            .map(Some)
            .map_err(|e| invalid_utf8(&self.text[start..end], e))
    }

    fn end(&mut self, is_null: bool) {
        self.ends.push((self.text.len(), is_null));
    }

    /// Splits a record.
    pub(super) fn split(&mut self, record: &[u8], format: &CopyFormat) -> Result<()> {
        self.text.clear();
        self.ends.clear();
        match format.kind {
            CopyKind::Csv => self.split_csv(record, format),
            _ => {
                self.split_text(record, format);
                Ok(())
            }
        }
    }

    fn split_text(&mut self, record: &[u8], format: &CopyFormat) {
        let null = format.null.as_bytes();
        for raw in (Unescaped { rest: Some(record), delimiter: format.delimiter }) {
            // NULL is recognised before escapes are resolved.
            if raw == null {
                self.end(true);
                continue;
            }
            if raw.contains(&b'\\') {
                self.unescape(raw);
            } else {
                self.text.extend_from_slice(raw);
            }
            self.end(false);
        }
    }

    fn unescape(&mut self, raw: &[u8]) {
        let mut at = 0;
        while at < raw.len() {
            let b = raw[at];
            at += 1;
            if b != b'\\' || at == raw.len() {
                self.text.push(b);
                continue;
            }
            let c = raw[at];
            at += 1;
            self.text.push(match c {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                b'0'..=b'7' => {
                    let mut value = u32::from(c - b'0');
                    let last = (at + 2).min(raw.len());
                    while at < last && matches!(raw[at], b'0'..=b'7') {
                        value = value * 8 + u32::from(raw[at] - b'0');
                        at += 1;
                    }
                    value as u8
                }
                b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                    let mut value = 0;
                    let last = (at + 2).min(raw.len());
                    while at < last && raw[at].is_ascii_hexdigit() {
                        value = value * 16 + (raw[at] as char).to_digit(16).expect("a hexadecimal digit");
                        at += 1;
                    }
                    value as u8
                }
                other => other,
            });
        }
    }

    fn split_csv(&mut self, record: &[u8], format: &CopyFormat) -> Result<()> {
        let mut at = 0;
        loop {
            let start = self.text.len();
            let mut quoted = false;
            let mut inside = false;
            while at < record.len() {
                let b = record[at];
                if inside {
                    let next = record.get(at + 1).copied();
                    if b == format.escape && next.is_some_and(|n| n == format.quote || n == format.escape) {
                        self.text.extend(next);
                        at += 2;
                        continue;
                    }
                    if b == format.quote {
                        inside = false;
                    } else {
                        self.text.push(b);
                    }
                } else if b == format.delimiter {
                    break;
                } else if b == format.quote {
                    quoted = true;
                    inside = true;
                } else {
                    self.text.push(b);
                }
                at += 1;
            }
            if inside {
                return Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field"));
            }
            self.end(!quoted && self.text[start..] == *format.null.as_bytes());
            if at >= record.len() {
                return Ok(());
            }
            at += 1;
        }
    }
}

/// The raw fields of a line of the text format: split at delimiters that no backslash precedes.
struct Unescaped<'a> {
    rest: Option<&'a [u8]>,
    delimiter: u8,
}

impl<'a> Iterator for Unescaped<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut at = 0;
        while at < rest.len() {
            match rest[at] {
                b'\\' => at += 2,
                b if b == self.delimiter => {
                    self.rest = Some(&rest[at + 1..]);
                    return Some(&rest[..at]);
                }
                _ => at += 1,
            }
        }
        self.rest = None;
        Some(rest)
    }
}

#[cold]
fn invalid_utf8(bytes: &[u8], e: std::str::Utf8Error) -> SqlError {
    let bad: Vec<String> = bytes[e.valid_up_to()..].iter().take(3).map(|b| format!("0x{b:02x}")).collect();
    let message = format!("invalid byte sequence for encoding \"UTF8\": {}", bad.join(" "));
    SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(kind: CopyKind) -> CopyFormat {
        let (delimiter, null) = if kind == CopyKind::Csv { (b',', "") } else { (b'\t', "\\N") };
        CopyFormat { kind, delimiter, null: null.to_owned(), header: false, quote: b'"', escape: b'"' }
    }

    /// All records of a stream that arrives in pieces of `size` bytes.
    fn records(format: &CopyFormat, stream: &str, size: usize) -> Vec<Vec<Option<String>>> {
        let mut records = Records::new(format);
        let mut fields = Fields::default();
        let mut out = Vec::new();
        let mut take = |records: &mut Records, at_end| {
            while let Some(range) = records.next(at_end) {
                fields.split(records.bytes(range), format).unwrap();
                out.push((0..fields.len()).map(|i| fields.get(i).unwrap().map(str::to_owned)).collect());
            }
        };
        for piece in stream.as_bytes().chunks(size) {
            records.feed(piece);
            take(&mut records, false);
        }
        take(&mut records, true);
        out
    }

    fn expect(rows: &[&[Option<&str>]]) -> Vec<Vec<Option<String>>> {
        rows.iter().map(|r| r.iter().map(|f| f.map(str::to_owned)).collect()).collect()
    }

    #[test]
    fn text_escapes_and_nulls_in_pieces_of_any_size() {
        let stream = "1\ta\\tb\t\\N\n2\tx\\\\y\t\\x41\\101\r\n3\t\tend\\\nof";
        let rows = expect(&[
            &[Some("1"), Some("a\tb"), None],
            &[Some("2"), Some("x\\y"), Some("AA")],
            &[Some("3"), Some(""), Some("end\nof")],
        ]);
        for size in [1, 2, 3, 7, 100] {
            assert_eq!(records(&format(CopyKind::Text), stream, size), rows, "pieces of {size}");
        }
    }

    #[test]
    fn csv_quotes_in_pieces_of_any_size() {
        let stream = "1,\"a,\"\"b\"\"\nc\",\n2,\"\",x\n,y\"z\",\n";
        let rows = expect(&[
            &[Some("1"), Some("a,\"b\"\nc"), None],
            &[Some("2"), Some(""), Some("x")],
            &[None, Some("yz"), None],
        ]);
        for size in [1, 2, 5, 100] {
            assert_eq!(records(&format(CopyKind::Csv), stream, size), rows, "pieces of {size}");
        }
    }
}
