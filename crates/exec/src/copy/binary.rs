//! PostgreSQL's binary COPY format: a signature, rows of counted fields, and a count of -1 behind the last.

use std::ops::Range;

use meridian_datum::{Result, SqlError, SqlState};

/// What a stream begins with.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Behind the signature: flags, and the length of a header extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// Flags that change how rows are read; none is known.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Bytes of one field, as many as a parameter may have: it is held until it is complete.
const FIELD_BYTES_MAX: usize = 64 << 20;

/// Writes what a stream begins with.
pub(super) fn write_header(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 8]);
}

/// Writes what a stream ends with.
pub(super) fn write_trailer(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i16).to_be_bytes());
}

#[cold]
fn bad_format(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

/// What is expected next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    Rows,
    Ended,
}

/// Rows of a stream that comes in pieces.
#[derive(Debug)]
pub(super) struct Tuples {
    buffer: Vec<u8>,
    /// What of the buffer was read.
    at: usize,
    state: State,
    columns: usize,
}

/// Where the fields of a row are; `None` is NULL.
pub(super) type Fields = Vec<Option<Range<usize>>>;

impl Tuples {
    pub(super) fn new(columns: usize) -> Self {
        Tuples { buffer: Vec::new(), at: 0, state: State::Header, columns }
    }

    pub(super) fn feed(&mut self, data: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.at));
        self.buffer.extend_from_slice(data);
    }

    /// The bytes of a field of the row that was given last.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.buffer[range.clone()]
    }

    /// The next row, if it is complete; `None` at the end, and until more data comes.
    pub(super) fn next(&mut self) -> Result<Option<Fields>> {
        if self.state == State::Header && !self.header()? {
            return Ok(None);
        }
        if self.state == State::Ended {
            if self.at < self.buffer.len() {
                return Err(bad_format("received copy data after EOF marker"));
            }
            return Ok(None);
        }
        let mut at = self.at;
        let Some(count) = self.take::<2>(&mut at).map(i16::from_be_bytes) else { return Ok(None) };
        if count == -1 {
            self.state = State::Ended;
            self.at = at;
            return self.next();
        }
        if usize::try_from(count) != Ok(self.columns) {
            let message = format!("row field count is {count}, expected {}", self.columns);
            return Err(bad_format(message));
        }
        let mut fields = Fields::with_capacity(self.columns);
        for _ in 0..self.columns {
            let Some(length) = self.take::<4>(&mut at).map(i32::from_be_bytes) else { return Ok(None) };
            if length == -1 {
                fields.push(None);
                continue;
            }
            let length = usize::try_from(length).map_err(|_| bad_format("invalid field size"))?;
            if length > FIELD_BYTES_MAX {
                let message = format!("field of {length} bytes exceeds the limit of {FIELD_BYTES_MAX} bytes");
                return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
            }
            if self.buffer.len() - at < length {
                return Ok(None);
            }
            fields.push(Some(at..at + length));
            at += length;
        }
        self.at = at;
        Ok(Some(fields))
    }

    /// Checks that the stream does not end within a row.
    pub(super) fn finish(&self) -> Result<()> {
        if self.state == State::Header {
            return Err(bad_format("COPY file signature not recognized"));
        }
        if self.at < self.buffer.len() {
            return Err(bad_format("unexpected EOF in COPY data"));
        }
        Ok(())
    }

    fn take<const N: usize>(&self, at: &mut usize) -> Option<[u8; N]> {
        let bytes = *self.buffer.get(*at..)?.first_chunk::<N>()?;
        *at += N;
        Some(bytes)
    }

    /// Reads the header; says whether it was complete.
    fn header(&mut self) -> Result<bool> {
        let have = self.buffer.len().min(SIGNATURE.len());
        if self.buffer[..have] != SIGNATURE[..have] {
            return Err(bad_format("COPY file signature not recognized"));
        }
        let mut at = SIGNATURE.len();
        let Some(flags) = self.take::<4>(&mut at).map(u32::from_be_bytes) else { return Ok(false) };
        if flags & CRITICAL_FLAGS != 0 {
            return Err(bad_format("unrecognized critical flags in COPY file header"));
        }
        let Some(extension) = self.take::<4>(&mut at).map(i32::from_be_bytes) else { return Ok(false) };
        let extension = usize::try_from(extension).ok().filter(|n| *n <= FIELD_BYTES_MAX);
        let extension = extension.ok_or_else(|| bad_format("invalid COPY file header (missing length)"))?;
        if self.buffer.len() < HEADER_BYTES + extension {
            return Ok(false);
        }
        self.at = HEADER_BYTES + extension;
        self.state = State::Rows;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        write_header(&mut out);
        out.extend_from_slice(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff");
        out.extend_from_slice(b"\0\x02\0\0\0\0\0\0\0\x01c");
        write_trailer(&mut out);
        out
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>> {
        let mut tuples = Tuples::new(2);
        let mut out = Vec::new();
        for piece in pieces {
            tuples.feed(piece);
            while let Some(fields) = tuples.next()? {
                let text = |f: &Option<Range<usize>>| match f {
                    Some(range) => String::from_utf8_lossy(tuples.bytes(range)).into_owned(),
                    None => "NULL".to_owned(),
                };
                out.push(fields.iter().map(text).collect::<Vec<_>>().join(","));
            }
        }
        tuples.finish()?;
        Ok(out)
    }

    #[test]
    fn rows_may_be_cut_anywhere() {
        let whole = stream();
        for cut in 0..whole.len() {
            assert_eq!(read(&[&whole[..cut], &whole[cut..]]).unwrap(), ["ab,NULL", ",c"], "cut at {cut}");
        }
        // The mark of the end may be left out.
        assert_eq!(read(&[&whole[..whole.len() - 2]]).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let whole = stream();
        let message = |bytes: &[u8]| read(&[bytes]).unwrap_err().message.clone();
        assert_eq!(message(b""), "COPY file signature not recognized");
        assert_eq!(message(b"1\t2\n"), "COPY file signature not recognized");
        assert_eq!(message(&whole[..whole.len() - 3]), "unexpected EOF in COPY data");
        assert_eq!(message(&[&whole[..], b"x"].concat()), "received copy data after EOF marker");
        let row = |bytes: &[u8]| message(&[&whole[..HEADER_BYTES], bytes].concat());
        assert_eq!(row(b"\0\x03"), "row field count is 3, expected 2");
        assert_eq!(row(b"\0\x02\xff\xff\xff\xfe"), "invalid field size");
        assert!(row(b"\0\x02\x7f\xff\xff\xff").contains("exceeds the limit"));
        let mut flags = whole.clone();
        flags[11] = 1;
        assert_eq!(message(&flags), "unrecognized critical flags in COPY file header");
    }
}
