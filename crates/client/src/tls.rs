//! Who is at the other end of a connection between two processes of one cluster?
//!
//! Every internal connection is mutual TLS 1.3 under the cluster's own CA. A certificate says who
//! its holder is in one DNS name of its SAN:
//!
//! ```text
//!   <name>.<role>.<region>.steppe        state-1.state.global.steppe
//! ```
//!
//! A node's certificate may carry a second name, `<mark>.admission.steppe`: which introduction it is of.
//!
//! * A server accepts any certificate of the cluster CA and hands the parsed [`PeerIdentity`] to
//!   its routes; which roles may call a route is that route's business (`kit::guard`).
//! * A client says whom it expects ([`Expect`]): a role and a region, sometimes a name. The address
//!   it dialled plays no part: addresses come from gossip and mean nothing.
//!
//! ```text
//!   ca.pem cert.pem key.pem ──load──► Material ──ArcSwap──► client_config / server_config
//!            ▲                                  ▲
//!      renewed in place                 reload_if_changed (mtime poll)
//! ```
//!
//! Invariants
//! * Only the cluster CA is trusted; system roots play no part here (see [`crate::public`]).
//! * Host names are never checked, roles always are.
//! * There is no session resumption: each handshake sees a certificate, so a reload takes effect on
//!   the next connection, and [`Identity::generation`] tells a pool to stop using older ones.
//! * A reload that fails changes nothing: the old material stays in use.
//!
//! Driven by `kit::process` (the poll) and by whoever dials or accepts. It fails by refusing the
//! handshake; the dialler sees [`crate::error::CallError::Connect`], the listener logs at debug.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, OtherError, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::judge::{Judge, Shown, Verifier};

pub use model::Role;

/// The last label of every name in a cluster certificate.
pub const SUFFIX: &str = "steppe";
const ADMISSION: &str = "admission";
/// File names inside an identity directory.
pub const CA_FILE: &str = "ca.pem";
pub const CERT_FILE: &str = "cert.pem";
pub const KEY_FILE: &str = "key.pem";

const PEM_BYTES_MAX: u64 = 256 * 1024;

/// Why an identity could not be used or a peer not be believed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not usable: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("certificate, key and CA do not fit together")]
    Material(#[source] rustls::Error),
    #[error("CA certificate is not usable")]
    Ca(#[source] rustls::server::VerifierBuilderError),
    #[error("a certificate and its key go together, and one of them is not named")]
    HalfAPair,
    #[error("certificate cannot be parsed")]
    Certificate,
    #[error("certificate names no cluster role")]
    NoRole,
    #[error("the peer's certificate is from before its node was purged")]
    Purged,
    #[error("expected {expected}, the peer is {found}")]
    WrongPeer { expected: String, found: String },
}

/// The one crypto provider of all our TLS, given explicitly to every builder.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// Whether `label` may stand as a region in a certificate name: one DNS label.
pub fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether `name` may stand as a name in a certificate: DNS labels joined by dots.
pub fn is_name(name: &str) -> bool {
    name.len() <= 128 && name.split('.').all(is_label)
}

/// The DNS name in the certificate of `name`, a `role` in `region`.
pub fn dns_name(name: &str, role: Role, region: &str) -> String {
    format!("{name}.{}.{region}.{SUFFIX}", role.as_str())
}

/// Who a peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerIdentity {
    pub role: Role,
    pub name: String,
    pub region: String,
    /// Serial number of the certificate, lower-case hex.
    pub serial: String,
    /// Of a node that was purged and introduced anew: which introduction the certificate is of. Else empty.
    #[serde(default)]
    pub admission: String,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dns_name(&self.name, self.role, &self.region))
    }
}

impl PeerIdentity {
    /// Reads the identity out of a certificate. Says nothing about whether it is to be believed:
    /// the chain is checked by the handshake before this is asked.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, cert) = x509_parser::parse_x509_certificate(der).map_err(|_| TlsError::Certificate)?;
        let san = cert.subject_alternative_name().map_err(|_| TlsError::Certificate)?.ok_or(TlsError::NoRole)?;
        let (mut found, mut admission) = (None, "");
        for general in &san.value.general_names {
            let x509_parser::extensions::GeneralName::DNSName(dns) = general else {
                continue;
            };
            let Some((name, role, region)) = split_name(dns) else {
                admission = admission_mark(dns).unwrap_or(admission);
                continue;
            };
            // Two roles in one certificate would make "who is this" ambiguous.
            if found.is_some() {
                return Err(TlsError::NoRole);
            }
            found = Some((name.to_owned(), role, region.to_owned()));
        }
        let (name, role, region) = found.ok_or(TlsError::NoRole)?;
        let serial = cert.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { role, name, region, serial, admission: admission.to_owned() })
    }
}

/// The second name in a certificate of this admission.
pub fn admission_name(mark: &str) -> String {
    format!("{mark}.{ADMISSION}.{SUFFIX}")
}

fn admission_mark(dns: &str) -> Option<&str> {
    let mark = dns.strip_suffix(SUFFIX)?.strip_suffix('.')?.strip_suffix(ADMISSION)?.strip_suffix('.')?;
    is_label(mark).then_some(mark)
}

/// `<name>.<role>.<region>.steppe` taken apart from the right; the name may hold dots.
fn split_name(dns: &str) -> Option<(&str, Role, &str)> {
    let rest = dns.strip_suffix(SUFFIX)?.strip_suffix('.')?;
    let (rest, region) = rest.rsplit_once('.')?;
    let (name, role) = rest.rsplit_once('.')?;
    (is_name(name) && is_label(region)).then_some(())?;
    Some((name, Role::parse(role)?, region))
}

/// Whom a caller expects at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expect {
    pub role: Role,
    /// `None`: the caller's own region.
    pub region: Option<Arc<str>>,
    /// `None`: any holder of the role.
    pub name: Option<Arc<str>>,
    /// `None`: a certificate of any admission.
    pub admission: Option<Arc<str>>,
}

impl From<Role> for Expect {
    fn from(role: Role) -> Self {
        Self { role, region: None, name: None, admission: None }
    }
}

impl Expect {
    /// What the handshake does not check, since only who dialled knows it.
    ///
    /// # Errors
    /// The peer's certificate is of another admission.
    pub fn check_admission(&self, peer: Option<&[CertificateDer<'_>]>) -> Result<(), TlsError> {
        let Some(wanted) = &self.admission else { return Ok(()) };
        let found = PeerIdentity::from_der(peer.and_then(<[_]>::first).ok_or(TlsError::Certificate)?)?;
        if found.admission == **wanted { Ok(()) } else { Err(TlsError::Purged) }
    }

    /// The name given to rustls as "server name"; [`RoleVerifier`] takes it apart again.
    fn server_name(&self, own_region: &str) -> Result<ServerName<'static>, TlsError> {
        let region = self.region.as_deref().unwrap_or(own_region);
        let text = match &self.name {
            Some(name) => dns_name(name, self.role, region),
            None => format!("{}.{region}.{SUFFIX}", self.role.as_str()),
        };
        ServerName::try_from(text).map_err(|_| TlsError::NoRole)
    }
}

/// Trusts the cluster CA, and of its certificates those that carry the expected role and region.
#[derive(Debug)]
struct RoleVerifier {
    roots: Arc<RootCertStore>,
}

impl RoleVerifier {
    fn check_name(expected: &str, peer: &PeerIdentity) -> Result<(), TlsError> {
        let full = peer.to_string();
        let fits = full.eq_ignore_ascii_case(expected)
            || full.get(peer.name.len() + 1..).is_some_and(|class| class.eq_ignore_ascii_case(expected));
        if fits {
            return Ok(());
        }
        Err(TlsError::WrongPeer { expected: expected.to_owned(), found: full })
    }
}

impl Judge for RoleVerifier {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        shown.signed_by(&self.roots)?;
        let refuse = |e: TlsError| rustls::Error::Other(OtherError(Arc::new(e)));
        let peer = PeerIdentity::from_der(shown.certificate).map_err(refuse)?;
        Self::check_name(&shown.name.to_str(), &peer).map_err(refuse)
    }
}

/// Which HTTP a connection is for. The dialler offers exactly one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    H1,
    H2,
}

/// One consistent set of CA, certificate and key, with the configurations built from it.
struct Material {
    me: PeerIdentity,
    not_after: SystemTime,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// The same for callers who have no certificate yet.
    doorstep: Arc<ServerConfig>,
    stamp: Stamp,
}

/// What tells one set of files from the next: time of change and length of each.
type Stamp = [Option<(SystemTime, u64)>; 3];

/// A process's own certificate, reloadable while in use. Clones share one state.
#[derive(Clone)]
pub struct Identity(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    generation: AtomicU64,
    material: ArcSwap<Material>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.me())
    }
}

impl Identity {
    /// Loads `ca.pem`, `cert.pem` and `key.pem` from `dir`.
    pub fn load(dir: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let dir = dir.into();
        let material = Material::read(&dir)?;
        Ok(Self(Arc::new(Shared { dir, generation: AtomicU64::new(1), material: ArcSwap::from_pointee(material) })))
    }

    /// Reads the files again if one of them changed. `Ok(true)` if new material is now in use.
    ///
    /// # Errors
    /// The new files are unreadable or do not fit together; the old material stays in use. A
    /// renewal that replaces file by file passes through such a state, so try again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if stamp(&self.0.dir) == self.0.material.load().stamp {
            return Ok(false);
        }
        self.reload()?;
        Ok(true)
    }

    /// Reads the files again, changed or not.
    pub fn reload(&self) -> Result<(), TlsError> {
        let material = Material::read(&self.0.dir)?;
        self.0.material.store(Arc::new(material));
        self.0.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Grows with each reload; connections made under an older generation should not be reused.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Who we are.
    pub fn me(&self) -> PeerIdentity {
        self.0.material.load().me.clone()
    }

    /// When our certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.0.material.load().not_after
    }

    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Configuration for dialling, and the name under which the handshake checks `expect`.
    pub fn dial(&self, expect: &Expect, alpn: Alpn) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
        let material = self.0.material.load();
        let name = expect.server_name(&material.me.region)?;
        let config = match alpn {
            Alpn::H1 => material.h1.clone(),
            Alpn::H2 => material.h2.clone(),
        };
        Ok((config, name))
    }

    /// Configuration for accepting, too, those who show no certificate; a shown one must be the cluster CA's.
    pub fn doorstep_config(&self) -> Arc<ServerConfig> {
        self.0.material.load().doorstep.clone()
    }

    /// Configuration for accepting: a certificate of the cluster CA is required.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.0.material.load().server.clone()
    }
}

impl Material {
    fn read(dir: &Path) -> Result<Self, TlsError> {
        // Stamped before reading: a change while we read is seen by the next poll.
        let stamp = stamp(dir);
        let ca = read_certs(&dir.join(CA_FILE))?;
        let chain = read_certs(&dir.join(CERT_FILE))?;
        let key = read_key(&dir.join(KEY_FILE))?;
        let leaf = chain.first().ok_or(TlsError::Certificate)?;
        let me = PeerIdentity::from_der(leaf)?;
        let not_after = not_after(leaf)?;

        let mut roots = RootCertStore::empty();
        for cert in ca {
            roots.add(cert).map_err(TlsError::Material)?;
        }
        let roots = Arc::new(roots);
        let client = |alpn: &[u8]| -> Result<Arc<ClientConfig>, TlsError> {
            let verifier = Verifier(RoleVerifier { roots: roots.clone() });
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(TlsError::Material)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(TlsError::Material)?;
            config.resumption = Resumption::disabled();
            config.enable_sni = false;
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(Arc::new(config))
        };
        let server = |strangers: bool| -> Result<Arc<ServerConfig>, TlsError> {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
            let verifier = if strangers { verifier.allow_unauthenticated() } else { verifier };
            let mut server = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(TlsError::Material)?
                .with_client_cert_verifier(verifier.build().map_err(TlsError::Ca)?)
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(TlsError::Material)?;
            server.send_tls13_tickets = 0;
            server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(Arc::new(server))
        };
        let (h1, h2) = (client(b"http/1.1")?, client(b"h2")?);
        Ok(Self { me, not_after, h1, h2, server: server(false)?, doorstep: server(true)?, stamp })
    }
}

fn stamp(dir: &Path) -> Stamp {
    [CA_FILE, CERT_FILE, KEY_FILE].map(|file| {
        let meta = std::fs::metadata(dir.join(file)).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

/// When a certificate ends.
pub fn not_after(cert: &CertificateDer<'_>) -> Result<SystemTime, TlsError> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).map_err(|_| TlsError::Certificate)?;
    let seconds = u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn read_pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |source| TlsError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fail)?.len() > PEM_BYTES_MAX {
        return Err(TlsError::File { path: path.to_owned(), reason: format!("longer than {PEM_BYTES_MAX} bytes") });
    }
    std::fs::read(path).map_err(fail)
}

/// Every certificate in a PEM file; at least one.
pub fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_pem(path)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        Ok(_) => Err(TlsError::File { path: path.to_owned(), reason: "it holds no certificate".to_owned() }),
        Err(e) => Err(not_whole(path, &e)),
    }
}

fn not_whole(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    use rustls::pki_types::pem::Error;
    let reason = match error {
        Error::NoItemsFound => "it does not hold what is needed; write it anew".to_owned(),
        Error::MissingSectionEnd { .. } | Error::IllegalSectionStart { .. } | Error::Base64Decode(_) => {
            "it is cut short or damaged; write it anew".to_owned()
        }
        other => other.to_string(),
    };
    TlsError::File { path: path.to_owned(), reason }
}

/// The readable certificates of a system's list, which may be long and hold odd ones.
pub(crate) fn read_bundle(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect())
}

/// The first private key in a PEM file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read_pem(path)?).map_err(|e| not_whole(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_name_is_taken_apart_from_the_right() {
        let (name, role, region) = split_name("a.b.state.global.steppe").unwrap();
        assert_eq!((name, role, region), ("a.b", Role::State, "global"));
        for bad in [
            "",
            "steppe",
            "state.global.steppe",
            "x.state.global.other",
            "x.king.global.steppe",
            ".state.global.steppe",
            "x.state..steppe",
        ] {
            assert!(split_name(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_expectation_fits_a_class_or_a_name_and_nothing_shorter() {
        let peer = PeerIdentity {
            role: Role::State,
            name: "s.1".to_owned(),
            region: "global".to_owned(),
            serial: String::new(),
            admission: String::new(),
        };
        for good in ["state.global.steppe", "s.1.state.global.steppe"] {
            RoleVerifier::check_name(good, &peer).unwrap();
        }
        for bad in ["broker.global.steppe", "state.eu.steppe", "1.state.global.steppe", "global.steppe", "steppe", ""] {
            RoleVerifier::check_name(bad, &peer).unwrap_err();
        }
    }

    #[test]
    fn labels_are_single_and_names_may_have_dots() {
        assert!(is_label("dc-1") && !is_label("a.b") && !is_label("") && !is_label("-a"));
        assert!(is_name("web.1") && !is_name("web..1") && !is_name("a b"));
    }
}
