//! Encryption of the SQL port, and who a client's certificate says it is.

use std::sync::Arc;

use pgwire::api::auth::sasl::scram::ScramServerAuth;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use x509_certificate::X509Certificate;

use crate::server::SqlStream;

/// Why certificates are of no use.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {detail}")]
pub struct CertificateError {
    /// Which of the three.
    pub file: &'static str,
    /// What is wrong.
    pub detail: String,
}

fn bad(file: &'static str) -> impl Fn(&dyn std::fmt::Display) -> CertificateError {
    move |detail| CertificateError { file, detail: detail.to_string() }
}

/// What the SQL port needs to demand encryption and to know its clients.
pub struct PgSecurity {
    acceptor: TlsAcceptor,
    /// Binds a proof to the channel where the client can.
    pub(crate) scram: ScramServerAuth,
    /// Makes up salts for roles that there are not, so that a client can't tell.
    pub(crate) decoy: [u8; 16],
}

impl PgSecurity {
    /// From PEM: the authorities whose signatures on clients' certificates count, this node's certificate chain, its key.
    ///
    /// # Errors
    /// Something of it can't be read, or doesn't fit together.
    pub fn new(authorities: &[u8], chain: &[u8], key: &[u8]) -> Result<PgSecurity, CertificateError> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities) {
            let authority = authority.map_err(|e| bad("ca.crt")(&e))?;
            roots.add(authority).map_err(|e| bad("ca.crt")(&e))?;
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| bad("ca.crt")(&e))?;
        let certificates = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|e| bad("node.crt")(&e))?;
        let private = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad("node.key")(&e))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("node.crt")(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, private)
            .map_err(|e| bad("node.crt")(&e))?;
        let mut scram = ScramServerAuth::new();
        scram.configure_certificate(chain).map_err(|e| bad("node.crt")(&e))?;
        Ok(PgSecurity { acceptor: TlsAcceptor::from(Arc::new(config)), scram, decoy: rand::random() })
    }

    /// Shakes hands.
    pub(crate) async fn accept<S: SqlStream>(&self, stream: S) -> std::io::Result<TlsStream<S>> {
        self.acceptor.accept(stream).await
    }
}

/// The user that a verified certificate of the client names.
pub(crate) fn certified_user<S>(stream: &TlsStream<S>) -> Option<String> {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates()?.first()?;
    X509Certificate::from_der(certificate).ok()?.subject_common_name()
}
