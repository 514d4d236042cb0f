//! Whom this process trusts, and as whom it speaks.
//!
//! With certificates every connection between nodes is TLS with a certificate on both sides, all of them signed by the
//! cluster's own authority. The subject's common name says what a certificate is for: [`NODE`] speaks for a node,
//! [`OPERATOR`] runs administrative commands and is the SQL user of that name; any other name is a SQL user and has no
//! business here.

use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use tonic::{Request, Status};
use x509_certificate::X509Certificate;

/// The common name of nodes' certificates.
pub const NODE: &str = "node";

/// The common name of an operator's certificate.
pub const OPERATOR: &str = "root";

/// PEM files, read.
#[derive(Clone)]
pub struct Credentials {
    /// The authorities whose signatures count.
    pub authorities: Vec<u8>,
    /// Our certificate, and those between it and the authority.
    pub chain: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

/// With certificates or without.
#[derive(Clone, Default)]
pub struct Security(Option<Arc<Credentials>>);

impl Security {
    /// Neither encryption nor authentication.
    pub fn none() -> Self {
        Security(None)
    }

    /// TLS with a certificate on both sides.
    pub fn tls(credentials: Credentials) -> Self {
        Security(Some(Arc::new(credentials)))
    }

    /// Of a URI.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.0.is_some() { "https" } else { "http" }
    }

    /// For dialling; the other side's certificate must be valid for the host that was dialled.
    pub(crate) fn client(&self) -> Option<ClientTlsConfig> {
        let c = self.0.as_ref()?;
        let identity = Identity::from_pem(&c.chain, &c.key);
        Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&c.authorities)).identity(identity))
    }

    /// For listening; the other side must have a certificate.
    pub(crate) fn server(&self) -> Option<ServerTlsConfig> {
        let c = self.0.as_ref()?;
        let identity = Identity::from_pem(&c.chain, &c.key);
        Some(ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(&c.authorities)))
    }

    /// Lets requests of these subjects through.
    pub(crate) fn only(&self, subjects: &'static [&'static str]) -> Gate {
        Gate { is_open: self.0.is_none(), subjects }
    }
}

/// Refuses requests by the subject of the caller's certificate.
#[derive(Clone, Copy)]
pub(crate) struct Gate {
    /// Without certificates everybody is let through.
    is_open: bool,
    subjects: &'static [&'static str],
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.is_open {
            return Ok(request);
        }
        let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let subject = info.and_then(|i| i.peer_certs()).and_then(|certs| common_name(certs.first()?));
        match subject {
            Some(name) if self.subjects.contains(&name.as_str()) => Ok(request),
            Some(name) => {
                Err(Status::permission_denied(format!("certificate of \"{name}\" may not do this")))
            }
            None => Err(Status::unauthenticated("certificate has no common name")),
        }
    }
}

/// The first certificate of a PEM file, in DER.
pub fn first_certificate(pem: &[u8]) -> Option<Vec<u8>> {
    x509_certificate::CapturedX509Certificate::from_pem(pem).ok()?.encode_der().ok()
}

/// The common name of the subject of a certificate in DER.
pub fn common_name(der: impl AsRef<[u8]>) -> Option<String> {
    X509Certificate::from_der(der).ok()?.subject_common_name()
}
