//! From the first byte to an opened session.

use bytes::{Buf, BytesMut};
use meridian_datum::{SqlError, SqlState};
use meridian_session::SessionParams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::errors::protocol_violation;

/// Bytes of a start-up packet; PostgreSQL's own limit.
const STARTUP_BYTES_MAX: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What a new connection is about.
pub(crate) enum Opening {
    /// A session.
    Session(SessionParams),
    /// A cancel request for another connection.
    Cancel {
        /// Which session.
        pid: i32,
        /// What its client was told.
        secret: i32,
    },
    /// The client was told to shake hands now.
    Encrypt,
    /// The client left, or nothing sensible can be answered.
    Gone,
}

/// Whether the connection is encrypted, or is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encryption {
    /// There is none.
    Declined,
    /// There will be no session without.
    Demanded,
    /// It is on.
    On,
}

/// Reads the start-up packet, or how the client wants to go on before it.
///
/// # Errors
/// To be sent as FATAL.
pub(crate) async fn negotiate<S>(
    stream: &mut S,
    input: &mut BytesMut,
    encryption: Encryption,
) -> Result<Opening, SqlError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Some(mut packet) = read_packet(stream, input).await? else { return Ok(Opening::Gone) };
        match packet.get_u32() {
            SSL_REQUEST if encryption == Encryption::Demanded => {
                // What came before the handshake was never encrypted: somebody in the middle may have put it in.
                if !input.is_empty() {
                    return Err(protocol_violation("received unencrypted data after SSL request"));
                }
                if stream.write_all(b"S").await.is_err() {
                    return Ok(Opening::Gone);
                }
                return Ok(Opening::Encrypt);
            }
            SSL_REQUEST | GSS_REQUEST if encryption != Encryption::On => {
                if stream.write_all(b"N").await.is_err() {
                    return Ok(Opening::Gone);
                }
            }
            CANCEL_REQUEST => {
                if packet.len() != 8 {
                    return Ok(Opening::Gone);
                }
                return Ok(Opening::Cancel { pid: packet.get_i32(), secret: packet.get_i32() });
            }
            version if version >> 16 == 3 => {
                if encryption == Encryption::Demanded {
                    return Err(SqlError::new(
                        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                        "the server accepts encrypted connections only",
                    )
                    .with_hint(
                        "Connect with sslmode=verify-full and sslrootcert, or at least sslmode=require.",
                    ));
                }
                let minor = version & 0xffff;
                let (params, options) = parse_parameters(&packet)?;
                if minor > 0 || !options.is_empty() {
                    let answer = negotiate_version(&options);
                    if stream.write_all(&answer).await.is_err() {
                        return Ok(Opening::Gone);
                    }
                }
                return Ok(Opening::Session(params));
            }
            version => {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
                        version >> 16,
                        version & 0xffff
                    ),
                ));
            }
        }
    }
}

/// One packet without its length, or `None` at the end of the stream.
async fn read_packet<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Option<BytesMut>, SqlError> {
    loop {
        if input.len() >= 4 {
            let length = u32::from_be_bytes([input[0], input[1], input[2], input[3]]) as usize;
            if !(8..=STARTUP_BYTES_MAX).contains(&length) {
                return Err(protocol_violation("invalid length of startup packet"));
            }
            if input.len() >= length {
                let mut packet = input.split_to(length);
                packet.advance(4);
                return Ok(Some(packet));
            }
        }
        match stream.read_buf(input).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// The parameters of a start-up packet, and the protocol options (`_pq_.`) among them, none of which is known here.
fn parse_parameters(packet: &[u8]) -> Result<(SessionParams, Vec<String>), SqlError> {
    let bad = || protocol_violation("invalid startup packet layout: expected terminator as last byte");
    let [pairs @ .., 0] = packet else { return Err(bad()) };
    let mut params = SessionParams::default();
    let mut options = Vec::new();
    let mut fields = pairs.split(|&b| b == 0);
    while let Some(name) = fields.next() {
        if name.is_empty() {
            break;
        }
        let value = fields.next().ok_or_else(bad)?;
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| {
                SqlError::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\" in startup packet",
                )
            })
        };
        let (name, value) = (text(name)?, text(value)?);
        match name.as_str() {
            "user" => params.user = value,
            "database" => params.database = value,
            _ if name.starts_with("_pq_.") => options.push(name),
            _ => params.settings.push((name, value)),
        }
    }
    if params.user.is_empty() {
        return Err(SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if params.database.is_empty() {
        params.database = params.user.clone();
    }
    Ok((params, options))
}

/// NegotiateProtocolVersion: minor version 0 is the newest, and these options are unknown.
fn negotiate_version(options: &[String]) -> BytesMut {
    use bytes::BufMut;
    let mut out = BytesMut::new();
    let start = crate::encode::begin(&mut out, b'v');
    out.put_i32(0);
    out.put_i32(options.len() as i32);
    for option in options {
        crate::encode::cstring(&mut out, option);
    }
    crate::encode::end(&mut out, start);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_split_at_nul() {
        let packet = b"user\0ann\0database\0db\0application_name\0psql\0_pq_.x\x001\0\0";
        let (params, options) = parse_parameters(packet).unwrap();
        assert_eq!((params.user.as_str(), params.database.as_str()), ("ann", "db"));
        assert_eq!(params.settings, vec![("application_name".to_string(), "psql".to_string())]);
        assert_eq!(options, vec!["_pq_.x".to_string()]);
    }

    #[test]
    fn bad_layouts_are_refused() {
        for packet in [&b""[..], b"user\0ann", b"user\0", b"\0", b"database\0x\0\0", b"user\0\xff\0\0"] {
            assert!(parse_parameters(packet).is_err(), "{}", packet.escape_ascii());
        }
    }
}
