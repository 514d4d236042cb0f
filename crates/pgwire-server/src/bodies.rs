//! The insides of messages, checked before they are decoded.
//!
//! PostgreSQL reads a message field by field and answers what does not fit with an ordinary error; the stream stays in
//! step, since the frame's length was right. The `pgwire` decoders take the fields for granted, so each body is walked
//! here first, with PostgreSQL's messages:
//!
//! | what is wrong | message |
//! |---|---|
//! | a string without its terminator | `invalid string in message` |
//! | fewer bytes than a count or a length says, or a negative length | `insufficient data left in message` |
//! | bytes behind the last field | `invalid message format` |
//! | a string that is not UTF-8 (22021) | `invalid byte sequence for encoding "UTF8"` |
//!
//! Parameter values of Bind are not texts yet: their format says what they are, and the session checks them.

use meridian_datum::{SqlError, SqlState};

use crate::errors::protocol_violation;

/// Checks the body of a message of this type. A type that clients do not send is nothing to check.
pub(crate) fn check(tag: u8, body: &[u8]) -> Result<(), SqlError> {
    let mut fields = Fields { rest: body };
    match tag {
        b'Q' | b'f' => fields.string()?,
        b'P' => {
            fields.string()?;
            fields.string()?;
            let types = fields.count()?;
            fields.skip(4 * types)?;
        }
        b'B' => {
            fields.string()?;
            fields.string()?;
            let formats = fields.count()?;
            fields.skip(2 * formats)?;
            for _ in 0..fields.count()? {
                match i32::from_be_bytes(fields.take()?) {
                    -1 => {}
                    length => fields.skip(usize::try_from(length).map_err(|_| insufficient())?)?,
                }
            }
            let formats = fields.count()?;
            fields.skip(2 * formats)?;
        }
        b'E' => {
            fields.string()?;
            fields.skip(4)?;
        }
        b'D' | b'C' => {
            fields.skip(1)?;
            fields.string()?;
        }
        b'H' | b'S' => {}
        b'F' => return Err(SqlError::unsupported("function calls by message")),
        _ => return Ok(()),
    }
    if fields.rest.is_empty() { Ok(()) } else { Err(protocol_violation("invalid message format")) }
}

/// What is left of a body.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn string(&mut self) -> Result<(), SqlError> {
        let end = self.rest.iter().position(|b| *b == 0);
        let end = end.ok_or_else(|| protocol_violation("invalid string in message"))?;
        let text = std::str::from_utf8(&self.rest[..end]);
        text.map_err(|e| invalid_text(&self.rest[e.valid_up_to()..end], e.error_len()))?;
        self.rest = &self.rest[end + 1..];
        Ok(())
    }

    fn count(&mut self) -> Result<usize, SqlError> {
        Ok(usize::from(u16::from_be_bytes(self.take()?)))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SqlError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or_else(insufficient)?;
        self.rest = rest;
        Ok(*field)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), SqlError> {
        self.rest = self.rest.get(bytes..).ok_or_else(insufficient)?;
        Ok(())
    }
}

fn insufficient() -> SqlError {
    protocol_violation("insufficient data left in message")
}

/// `22021`, with the bytes that are no character.
fn invalid_text(from: &[u8], length: Option<usize>) -> SqlError {
    let bad = from.iter().take(length.unwrap_or(from.len()).max(1));
    let hex: Vec<String> = bad.map(|b| format!("0x{b:02x}")).collect();
    SqlError::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!("invalid byte sequence for encoding \"UTF8\": {}", hex.join(" ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "08P01 insufficient data left in message";
    const NO_END: &str = "08P01 invalid string in message";
    const TOO_LONG: &str = "08P01 invalid message format";

    #[track_caller]
    fn assert_check(tag: u8, body: &[u8], expected: &str) {
        let got = match check(tag, body) {
            Ok(()) => "ok".to_owned(),
            Err(e) => format!("{} {}", e.state.code(), e.message),
        };
        assert_eq!(got, expected, "{} {body:?}", tag.escape_ascii());
        // What passes is decoded without a panic, whole.
        if expected == "ok" {
            let mut frame = bytes::BytesMut::new();
            frame.extend_from_slice(&[tag]);
            frame.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
            frame.extend_from_slice(body);
            let decoded = crate::frames::Frames::new().next(&mut frame);
            assert!(matches!(decoded, Ok(Some(_))), "{} {body:?}", tag.escape_ascii());
            assert!(frame.is_empty(), "{} {body:?}", tag.escape_ascii());
        }
    }

    /// Every prefix of a well-formed body is refused, and so is the body with a byte more.
    #[track_caller]
    fn assert_whole(tag: u8, body: &[u8]) {
        assert_check(tag, body, "ok");
        for end in 0..body.len() {
            let e = check(tag, &body[..end]).unwrap_err();
            assert_eq!(e.state.code(), "08P01", "{end} bytes of {body:?}");
        }
        assert_check(tag, &[body, b"\0"].concat(), TOO_LONG);
    }

    #[test]
    fn query_is_one_string() {
        assert_whole(b'Q', b"select 1\0");
        assert_check(b'Q', b"", NO_END);
        assert_check(b'Q', b"select 1", NO_END);
        assert_check(b'Q', b"select 1\0garbage\0", TOO_LONG);
        let message = "22021 invalid byte sequence for encoding \"UTF8\": 0xff";
        assert_check(b'Q', b"select '\xff\xfe'\0", message);
        assert_check(b'Q', b"\xe2\x82\0", "22021 invalid byte sequence for encoding \"UTF8\": 0xe2 0x82");
    }

    #[test]
    fn parse_has_as_many_types_as_it_says() {
        assert_whole(b'P', b"s\0select $1\0\0\x01\0\0\0\x17");
        assert_check(b'P', b"", NO_END);
        assert_check(b'P', b"\0", NO_END);
        assert_check(b'P', b"\0select 1\0", SHORT);
        assert_check(b'P', b"\0select 1\0\x75\x30", SHORT);
        assert_check(b'P', b"\0select 1\0\xff\xff", SHORT);
        // An oid may look like anything.
        assert_check(b'P', b"\0select 1\0\0\x01\xff\xfe\xfd\0", "ok");
    }

    #[test]
    fn bind_has_the_values_that_it_says() {
        let whole = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0";
        assert_whole(b'B', whole);
        assert_check(b'B', b"", NO_END);
        assert_check(b'B', b"\0\0\x75\x30", SHORT);
        assert_check(b'B', b"\0\0\0\0\0\x01\0\0\x03\xe8x", SHORT);
        // A length of -5, and one beyond what a message can hold.
        assert_check(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfb\0\0", SHORT);
        assert_check(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0", SHORT);
        // Result formats beyond the message.
        assert_check(b'B', b"\0\0\0\0\0\0\xff\xff\0\0", SHORT);
    }

    #[test]
    fn execute_has_a_name_and_a_count() {
        assert_whole(b'E', b"p\0\0\0\0\x05");
        assert_check(b'E', b"", NO_END);
        assert_check(b'E', b"p\0\0\0", SHORT);
    }

    #[test]
    fn describe_and_close_have_a_kind_and_a_name() {
        for tag in [b'D', b'C'] {
            assert_whole(tag, b"Sname\0");
            assert_check(tag, b"", SHORT);
            assert_check(tag, b"S", NO_END);
        }
    }

    #[test]
    fn sync_and_flush_are_empty() {
        for tag in [b'S', b'H'] {
            assert_whole(tag, b"");
        }
    }

    #[test]
    fn copy_data_is_anything_and_its_failure_a_string() {
        assert_check(b'd', b"\xff\0\xfe", "ok");
        assert_check(b'c', b"", "ok");
        assert_whole(b'f', b"no more\0");
    }

    #[test]
    fn function_calls_are_not_supported() {
        assert_check(b'F', b"", "0A000 function calls by message is not supported");
    }
}
