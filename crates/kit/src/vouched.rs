//! An operator's certificates as introductions: who has one of an authority that the operator named needs no
//! token to become a node.
//!
//! ```text
//!   machine ── TLS, naming `server.<region>.nomad`, with its operator's certificate ──► gateway, with one of its own
//!           ◄── a certificate of the cluster for the key that it asks with ──────────┘
//! ```
//!
//! The two kinds of certificates never mix: a caller says by naming a server whom it means, and is then asked for
//! the operator's kind only; without a name, for the cluster's only. An operator's certificate opens nothing but
//! the introduction. Files are read again when they change, as in [`crate::https`].

use std::path::PathBuf;
use std::sync::Arc;

use client::tls::TlsError;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::https::{Https, HttpsSettings};

/// Which files, and how strictly names are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct VouchingSettings {
    /// An operator's certificate for nodes to see, PEM: nodes with a certificate of the same operator need no
    /// token.
    #[arg(long = "rpc-cert-file", requires = "rpc_key")]
    pub rpc_cert: Option<PathBuf>,
    /// Key of that certificate, PEM.
    #[arg(long = "rpc-key-file", requires = "rpc_ca")]
    pub rpc_key: Option<PathBuf>,
    /// Authority of nodes' certificates, PEM.
    #[arg(long = "rpc-ca-file", requires = "rpc_cert")]
    pub rpc_ca: Option<PathBuf>,
    /// A node's certificate must be of a client or a server of this region.
    #[arg(long = "rpc-verify-name")]
    pub rpc_verify_name: bool,
}

/// What a listener needs to judge an operator's certificates.
#[derive(Clone, Debug)]
pub struct Vouching {
    pub https: Https,
    region: String,
    verify_name: bool,
}

/// In the extensions of each request that came with an operator's certificate: whose it is, or why it is no
/// introduction.
#[derive(Clone, Debug)]
pub struct Vouched(pub Arc<Result<String, String>>);

impl Vouching {
    /// `None` when no files are named.
    ///
    /// # Errors
    /// They cannot be read, or do not fit together.
    pub fn load(settings: &VouchingSettings, region: &str) -> Result<Option<Self>, TlsError> {
        let files = HttpsSettings {
            cert: settings.rpc_cert.clone(),
            key: settings.rpc_key.clone(),
            client_ca: settings.rpc_ca.clone(),
            tls13: true,
        };
        let https = Https::load(&files)?.filter(|_| files.verifies());
        Ok(https.map(|https| Self { https, region: region.to_owned(), verify_name: settings.rpc_verify_name }))
    }

    /// Judges a certificate that the handshake believed.
    pub fn judge(&self, cert: Option<&CertificateDer<'_>>) -> Vouched {
        let judged = match cert.and_then(names) {
            Some(names) => judge(&names, &self.region, self.verify_name),
            None => Err("the certificate cannot be read".to_owned()),
        };
        Vouched(Arc::new(judged))
    }
}

/// All names a certificate has, the common one first.
fn names(cert: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).ok()?;
    let common = cert.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned));
    let mut names: Vec<String> = common.collect();
    if let Some(san) = cert.subject_alternative_name().ok()? {
        names.extend(san.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }));
    }
    Some(names)
}

/// Whether a certificate with these names makes its holder a node of the region; says which name does.
///
/// # Errors
/// One sentence that says why not.
fn judge(names: &[String], region: &str, verify_name: bool) -> Result<String, String> {
    let of = |role: &str| format!("{role}.{region}.nomad");
    if let Some(name) = names.iter().find(|name| **name == of("client") || **name == of("server")) {
        return Ok(name.clone());
    }
    if verify_name {
        return Err(format!("the certificate is not for {}, nor for {}", of("client"), of("server")));
    }
    // Whatever else it says: one for people, or for another region, was not made for nodes of this one.
    let role = |name: &&String| {
        let labels: Vec<&str> = name.split('.').collect();
        matches!(labels[..], ["client" | "server" | "cli", _, "nomad"])
    };
    match names.iter().find(role) {
        Some(name) => Err(format!("the certificate is for {name}, not for a node of region {region}")),
        None => Ok(names.first().cloned().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str], verify_name: bool) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        judge(&names, "global", verify_name)
    }

    #[test]
    fn a_client_s_or_server_s_certificate_of_the_region_introduces_and_a_person_s_or_another_region_s_never() {
        for strict in [true, false] {
            for good in ["client.global.nomad", "server.global.nomad"] {
                assert_eq!(said(&["other", good, "localhost"], strict).unwrap(), good);
            }
            for bad in ["cli.global.nomad", "client.eu.nomad", "server.eu.nomad"] {
                let why = said(&[bad, "localhost"], strict).unwrap_err();
                assert!(why.starts_with("the certificate is"), "{why}");
            }
        }
    }

    #[test]
    fn a_certificate_with_names_of_the_operator_s_own_introduces_unless_names_are_verified() {
        assert_eq!(said(&["node7.example"], false).unwrap(), "node7.example");
        assert!(said(&["node7.example"], true).is_err());
    }
}
