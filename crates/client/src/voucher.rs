//! A machine that has a certificate of its operator's, and none of the cluster yet.
//!
//! It names the server it calls (`server.<region>.nomad`), which tells the listener which kind of certificate is
//! meant. It believes who has a certificate of the operator's authority; with that name, if names are verified.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, verify_server_name};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use crate::judge::{Judge, Shown, Verifier};
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
        let verifier = Verifier(Operators { roots, verify_name });
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
    verify_name: bool,
}

impl Judge for Operators {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let cert = shown.signed_by(&self.roots)?;
        if self.verify_name {
            verify_server_name(&cert, shown.name)?;
        }
        Ok(())
    }
}
