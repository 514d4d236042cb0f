//! Messages from the client: framing, limits, decoding.
//!
//! A frame is taken from the stream only when it is complete, after its announced length was checked. The `pgwire`
//! decoders then see that frame alone. They panic on some frames whose inside is shorter than its own counts say, so a
//! panic there is a protocol violation like any other malformed frame.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, BytesMut};
use meridian_datum::{SqlError, SqlState};
use pgwire::messages::{DecodeContext, PgWireFrontendMessage};

use crate::errors::protocol_violation;

/// Bytes of one message. PostgreSQL takes up to 1 GiB; a statement or a parameter beyond this is refused with 54000,
/// so that one client can't take the node's memory.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why there is no next message.
pub(crate) enum FrameError {
    /// A statement's text is not UTF-8. Its frame was taken, so the stream is still in step.
    BadText {
        /// The type of the message.
        tag: u8,
        error: SqlError,
    },
    /// The frame can't be right; the connection can't go on.
    Broken(SqlError),
}

/// The decoding state of a connection after start-up.
pub(crate) struct Frames {
    context: DecodeContext,
}

impl Frames {
    pub(crate) fn new() -> Self {
        let mut context = DecodeContext::default();
        context.protocol_version = pgwire::messages::ProtocolVersion::PROTOCOL3_0;
        context.awaiting_frontend_ssl = false;
        context.awaiting_frontend_startup = false;
        Frames { context }
    }

    /// The next message of `buffer`, or `None` until more bytes arrive.
    pub(crate) fn next(&self, buffer: &mut BytesMut) -> Result<Option<PgWireFrontendMessage>, FrameError> {
        if buffer.len() < 5 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
        if length < 4 {
            return Err(FrameError::Broken(protocol_violation("invalid message length")));
        }
        if length > MESSAGE_BYTES_MAX {
            let error = SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("message of {length} bytes exceeds the limit of {MESSAGE_BYTES_MAX} bytes"),
            );
            let hint = "Send large data in several statements, or with COPY.";
            return Err(FrameError::Broken(error.with_hint(hint)));
        }
        if buffer.len() < 1 + length {
            buffer.reserve(1 + length - buffer.len());
            return Ok(None);
        }
        let mut frame = buffer.split_to(1 + length);
        let tag = frame[0];
        // The strings of these messages are text of the client encoding; the crate would replace bad bytes silently.
        if matches!(tag, b'Q' | b'P') {
            check_utf8(&frame[5..]).map_err(|error| FrameError::BadText { tag, error })?;
        }
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let message = PgWireFrontendMessage::decode(&mut frame, &self.context);
            (message, frame.has_remaining())
        }));
        match decoded {
            Ok((Ok(Some(message)), false)) => Ok(Some(message)),
            Ok((Err(pgwire::error::PgWireError::InvalidMessageType(tag)), _)) => {
                Err(FrameError::Broken(protocol_violation(format!("invalid frontend message type {tag}"))))
            }
            _ => {
                let message = format!("malformed message of type '{}'", tag.escape_ascii());
                Err(FrameError::Broken(protocol_violation(message)))
            }
        }
    }
}

/// `22021` for text that is not UTF-8. In Parse the parameter types follow the text; they are behind the second NUL.
fn check_utf8(body: &[u8]) -> Result<(), SqlError> {
    let text_end = body.iter().rposition(|&b| b == 0).unwrap_or(body.len());
    match std::str::from_utf8(&body[..text_end]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = error.valid_up_to();
            // Bytes of the type list may look like broken text; only the text in front of it is judged.
            let nuls_before = body[..at].iter().filter(|&&b| b == 0).count();
            if nuls_before >= 2 {
                return Ok(());
            }
            let bad = body[at..text_end].iter().take(error.error_len().unwrap_or(1));
            let hex: Vec<String> = bad.map(|b| format!("0x{b:02x}")).collect();
            Err(SqlError::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": {}", hex.join(" ")),
            ))
        }
    }
}
