//! Messages from the client: framing, limits, decoding.
//!
//! A frame is taken from the stream only when it is complete, after its announced length was checked. Its inside is
//! checked by [`bodies`]; the `pgwire` decoders then see that frame alone. A frame whose inside is wrong fails as a
//! statement does, since the stream is still in step; one whose length or type is wrong ends the connection.

use bytes::{Buf, BytesMut};
use meridian_datum::{SqlError, SqlState};
use pgwire::messages::{DecodeContext, PgWireFrontendMessage, startup};

use crate::bodies;
use crate::errors::protocol_violation;

/// Bytes of one message. PostgreSQL takes up to 1 GiB; a statement or a parameter beyond this is refused with 54000,
/// so that one client can't take the node's memory.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why there is no next message.
pub(crate) enum FrameError {
    /// The inside of a message is wrong. Its frame was taken, so the stream is still in step.
    BadBody {
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
        let tag = buffer[0];
        let mut frame = buffer.split_to(1 + length);
        // After start-up nobody is asked for a password.
        if tag == startup::MESSAGE_TYPE_BYTE_PASSWORD_MESSAGE_FAMILY {
            return Err(FrameError::Broken(unknown_type(tag)));
        }
        bodies::check(tag, &frame[5..]).map_err(|error| FrameError::BadBody { tag, error })?;
        match PgWireFrontendMessage::decode(&mut frame, &self.context) {
            Ok(Some(message)) if !frame.has_remaining() => Ok(Some(message)),
            Err(pgwire::error::PgWireError::InvalidMessageType(tag)) => {
                Err(FrameError::Broken(unknown_type(tag)))
            }
            _ => {
                let message = format!("malformed message of type '{}'", tag.escape_ascii());
                Err(FrameError::Broken(protocol_violation(message)))
            }
        }
    }
}

fn unknown_type(tag: u8) -> SqlError {
    protocol_violation(format!("invalid frontend message type {tag}"))
}
