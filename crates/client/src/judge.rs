//! Is the one at the other end of a handshake to be believed? Callers differ in what they make of a certificate,
//! and in nothing else.

use std::fmt::Debug;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::tls::provider;

/// What the other end shows.
pub struct Shown<'a> {
    pub certificate: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    /// Whom the caller dialled.
    pub name: &'a ServerName<'a>,
    now: UnixTime,
}

impl Shown<'_> {
    /// # Errors
    /// No authority of these has signed it, or not for now.
    pub fn signed_by(&self, roots: &RootCertStore) -> Result<ParsedCertificate<'_>, rustls::Error> {
        let cert = ParsedCertificate::try_from(self.certificate)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, roots, self.intermediates, self.now, algorithms)?;
        Ok(cert)
    }
}

/// What a caller makes of a certificate.
pub trait Judge: Debug + Send + Sync {
    /// # Errors
    /// It is not to be believed.
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error>;
}

/// Believes every certificate: for who says so on the command line, and for an introduction, which proves itself.
#[derive(Debug)]
pub struct Anybody;

impl Judge for Anybody {
    fn judge(&self, _: &Shown<'_>) -> Result<(), rustls::Error> {
        Ok(())
    }
}

/// Asks the judge; and the other end must have the certificate's key.
#[derive(Debug)]
pub struct Verifier<J>(pub J);

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.judge(&Shown { certificate, intermediates, name, now })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
