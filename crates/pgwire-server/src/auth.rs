//! Who a client is: SCRAM-SHA-256 over the encrypted connection (RFC 5802, RFC 7677).
//!
//! ```text
//!   server  AuthenticationSASL            the mechanisms
//!   client  SASLInitialResponse           which one, its nonce
//!   server  AuthenticationSASLContinue    salt, iterations, both nonces
//!   client  SASLResponse                  proof that it knows the password
//!   server  AuthenticationSASLFinal       proof that the server knows its verifier
//! ```
//! The exchange itself is the `pgwire` crate's. A role that there is not, or that has no password, gets a made-up salt
//! and fails at the proof, so that nobody learns which roles there are.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use meridian_datum::{SqlError, SqlState};
use pgwire::api::auth::sasl::scram::{ScramSecret, gen_salted_password};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::encode;
use crate::errors::protocol_violation;
use crate::tls::PgSecurity;

/// Bytes of a message of the exchange; PostgreSQL's own limit.
const MESSAGE_BYTES_MAX: usize = 65_535;

const PLAIN: &str = "SCRAM-SHA-256";

/// Bound to the TLS channel, so that nobody in the middle can pass a proof on.
const BOUND: &str = "SCRAM-SHA-256-PLUS";

const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

/// Has the client prove that it knows the password behind `verifier`. `None` when it left.
///
/// # Errors
/// 28P01 when it does not; 08P01 when it breaks the protocol.
pub(crate) async fn authenticate<S>(
    stream: &mut S,
    input: &mut BytesMut,
    security: &PgSecurity,
    user: &str,
    verifier: Option<&str>,
) -> Result<Option<()>, SqlError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refused = || {
        let message = format!("password authentication failed for user \"{user}\"");
        SqlError::new(SqlState::INVALID_PASSWORD, message)
    };
    let known = verifier.and_then(parse_verifier);
    let is_known = known.is_some();
    let secret = known.unwrap_or_else(|| decoy(security, user));
    let mut mechanisms = BytesMut::new();
    encode::cstring(&mut mechanisms, BOUND);
    encode::cstring(&mut mechanisms, PLAIN);
    mechanisms.put_u8(0);
    if send(stream, SASL, &mechanisms).await.is_err() {
        return Ok(None);
    }
    let Some(first) = read_response(stream, input).await? else { return Ok(None) };
    let first = initial_response(first)?;
    let malformed =
        |error: pgwire::error::PgWireError| protocol_violation(format!("malformed SCRAM message: {error}"));
    let (challenge, waiting) =
        security.scram.on_client_first_message_with_secret(&first, secret).map_err(malformed)?;
    if send(stream, SASL_CONTINUE, challenge.as_bytes()).await.is_err() {
        return Ok(None);
    }
    let Some(last) = read_response(stream, input).await? else { return Ok(None) };
    let proof = waiting.on_client_final_message(&last).map_err(|_| refused())?;
    if !is_known {
        return Err(refused());
    }
    if send(stream, SASL_FINAL, proof.as_bytes()).await.is_err() {
        return Ok(None);
    }
    Ok(Some(()))
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, kind: i32, data: &[u8]) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    let start = encode::begin(&mut out, b'R');
    out.put_i32(kind);
    out.put_slice(data);
    encode::end(&mut out, start);
    stream.write_all(&out).await?;
    stream.flush().await
}

/// The body of the client's next message, which must be a response.
async fn read_response<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Option<Bytes>, SqlError> {
    loop {
        if input.first().is_some_and(|tag| *tag != b'p') {
            return Err(protocol_violation("expected SASL response"));
        }
        if input.len() >= 5 {
            let length = u32::from_be_bytes([input[1], input[2], input[3], input[4]]) as usize;
            if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
                return Err(protocol_violation("invalid length of SASL response"));
            }
            if input.len() > length {
                let mut message = input.split_to(1 + length);
                message.advance(5);
                return Ok(Some(message.freeze()));
            }
        }
        match stream.read_buf(input).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// The client's first message out of SASLInitialResponse: the mechanism's name, then the length of the data and the data.
fn initial_response(mut body: Bytes) -> Result<Bytes, SqlError> {
    let bad = || protocol_violation("malformed SASLInitialResponse");
    let end = body.iter().position(|&b| b == 0).ok_or_else(bad)?;
    let mechanism = body.split_to(end);
    body.advance(1);
    if mechanism != PLAIN && mechanism != BOUND {
        return Err(protocol_violation("client selected an invalid SASL authentication mechanism"));
    }
    if body.len() < 4 || body.get_u32() as usize != body.len() {
        return Err(bad());
    }
    Ok(body)
}

/// A verifier in PostgreSQL's form: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
fn parse_verifier(text: &str) -> Option<ScramSecret> {
    let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
    let (salt, keys) = rest.split_once('$')?;
    let (stored, server) = keys.split_once(':')?;
    let decode = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    };
    Some(ScramSecret::Verifier {
        salt: decode(salt)?,
        iterations: iterations.parse().ok()?,
        stored_key: decode(stored)?,
        server_key: decode(server)?,
    })
}

/// The same for the same user as long as the process runs, like a real one.
fn decoy(security: &PgSecurity, user: &str) -> ScramSecret {
    let salt = gen_salted_password(user, &security.decoy, 1)[..16].to_vec();
    let salted = gen_salted_password(user, &security.decoy, 2);
    ScramSecret::verifier_from_salted_password(salt, salted, pgwire::api::auth::sasl::scram::SCRAM_ITERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_are_read_in_postgresqls_form() {
        let text = postgres_protocol::password::scram_sha_256(b"secret");
        let Some(ScramSecret::Verifier { salt, iterations, stored_key, server_key }) = parse_verifier(&text)
        else {
            panic!("{text}");
        };
        assert_eq!((salt.len(), iterations, stored_key.len(), server_key.len()), (16, 4096, 32, 32));
        for bad in ["", "md5abc", "SCRAM-SHA-256$4096", "SCRAM-SHA-256$x:aaaa$bbbb:cccc"] {
            assert!(parse_verifier(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_first_message_is_taken_out_of_its_frame() {
        let frame = |mechanism: &str, length: u32, data: &str| {
            let mut out = BytesMut::new();
            encode::cstring(&mut out, mechanism);
            out.put_u32(length);
            out.put_slice(data.as_bytes());
            out.freeze()
        };
        assert_eq!(initial_response(frame(PLAIN, 5, "n,,n=")).unwrap(), "n,,n=");
        assert!(initial_response(frame(PLAIN, 6, "n,,n=")).is_err());
        assert!(initial_response(frame("PLAIN", 5, "n,,n=")).is_err());
        assert!(initial_response(Bytes::from_static(b"SCRAM-SHA-256")).is_err());
        assert!(initial_response(Bytes::from_static(b"SCRAM-SHA-256\0\0")).is_err());
    }
}
