//! A machine that has a certificate of its operator's, and none of the cluster yet.
//!
//! It names the server it calls (`server.<region>.nomad`), which tells the listener which kind of certificate is
//! meant. It believes who has a certificate of the operator's authority; with that name, if names are verified.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::tls::{TlsError, provider, read_certs, read_key};

/// What such a machine calls with.
#[derive(Clone, Debug)]
pub struct Voucher {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// The operator's files.
#[derive(Clone, Copy, Debug)]
pub struct VoucherFiles<'a> {
    pub ca: &'a Path,
    pub cert: &'a Path,
    pub key: &'a Path,
}

impl Voucher {
    /// # Errors
    /// The files cannot be read, or do not fit together.
    pub fn load(files: VoucherFiles<'_>, region: &str, verify_name: bool) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for cert in read_certs(files.ca)? {
            roots.add(cert).map_err(TlsError::Material)?;
        }
        let verifier = Operators { roots, provider: provider(), verify_name };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Material)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(read_certs(files.cert)?, read_key(files.key)?)
            .map_err(TlsError::Material)?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(format!("server.{region}.nomad")).map_err(|_| TlsError::NoRole)?;
        Ok(Self { config: Arc::new(config), name })
    }
}

#[derive(Debug)]
struct Operators {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    verify_name: bool,
}

impl ServerCertVerifier for Operators {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let cert = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, intermediates, now, algorithms)?;
        if self.verify_name {
            verify_server_name(&cert, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
