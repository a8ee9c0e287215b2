//! The cluster's own certificate authority.
//!
//! ```text
//!   ca.pem ca-key.pem gossip.key   ← Authority::create, once per cluster
//!        │ issue (key made here)      sign_csr (key stays with the asker)
//!        ▼
//!   ca.pem cert.pem key.pem        ← write_identity: what `client::tls::Identity` loads
//! ```
//!
//! ECDSA P-256 throughout. A leaf says who it is by one DNS name, `<name>.<role>.<region>.steppe`,
//! and serves both ends of a connection; a node that was purged and introduced anew has a second one, the mark of
//! that introduction, which renewals keep. Nothing of a certificate request is used but its public
//! key: name, role and validity are decided by whoever signs.
//!
//! Only `state` and the commands that make a cluster hold an [`Authority`].

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use client::tls::{
    CA_FILE, CERT_FILE, KEY_FILE, PeerIdentity, Role, admission_name, dns_name, is_label, is_name, read_certs,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};

/// File of the CA's key, beside `ca.pem`.
pub const CA_KEY_FILE: &str = "ca-key.pem";
/// File of the key that seals gossip packets.
pub const GOSSIP_KEY_FILE: &str = "gossip.key";

/// Clocks of two machines may differ by this much and still believe a fresh certificate.
const BACKDATED: Duration = Duration::from_secs(10 * 60);
const CA_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);
const LEAF_TTL_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410).
const ED25519_PKCS8_HEAD: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const CSR_BYTES_MAX: usize = 16 * 1024;

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path} already exists")]
    Exists { path: PathBuf },
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("`{0}` cannot stand in a certificate name")]
    Name(String),
    #[error("certificate request is longer than {CSR_BYTES_MAX} bytes")]
    TooLong,
    #[error("certificate request is not usable")]
    Request(#[source] rcgen::Error),
    #[error("certificate cannot be made")]
    Make(#[source] rcgen::Error),
    #[error("no randomness to be had")]
    Randomness,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Pem {
    pub cert: String,
    pub key: String,
}

/// The holder of the CA key.
pub struct Authority {
    ca_pem: String,
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.dir.display())
    }
}

impl Authority {
    /// Makes a new CA and a gossip key in `dir`. Never replaces a CA that is there.
    pub fn create(dir: impl AsRef<Path>, region: &str) -> Result<Self, PkiError> {
        Self::create_with(dir.as_ref(), region, &KeyPair::generate().map_err(PkiError::Make)?)
    }

    /// The same with a key that follows from a secret: whoever has the secret makes the same authority, so
    /// that the servers of a cluster need nothing else in common. The key is Ed25519, whose every 32 bytes
    /// are a key.
    pub fn create_from(dir: impl AsRef<Path>, region: &str, secret: &[u8]) -> Result<Self, PkiError> {
        let seed = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret),
            format!("steppe cluster authority 1 {region}").as_bytes(),
        );
        let der = [ED25519_PKCS8_HEAD, seed.as_ref()].concat();
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(der);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(PkiError::Make)?;
        Self::create_with(dir.as_ref(), region, &key)
    }

    fn create_with(dir: &Path, region: &str, key: &KeyPair) -> Result<Self, PkiError> {
        if !is_label(region) {
            return Err(PkiError::Name(region.to_owned()));
        }
        make_dir(dir)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("steppe cluster CA {region}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, CA_TTL)?;
        let ca_pem = params.self_signed(key).map_err(PkiError::Make)?.pem();
        // The key first, and only if there is none: two creators cannot both win.
        create_new(&dir.join(CA_KEY_FILE), key.serialize_pem().as_bytes(), 0o600)?;
        replace(&dir.join(CA_FILE), ca_pem.as_bytes(), 0o644)?;
        let gossip_key = dir.join(GOSSIP_KEY_FILE);
        if !gossip_key.exists() {
            create_gossip_key(&gossip_key)?;
        }
        Self::load(dir)
    }

    /// Loads the CA that [`Authority::create`] made.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, PkiError> {
        let dir = dir.as_ref();
        let ca_pem = read(&dir.join(CA_FILE))?;
        let key = KeyPair::from_pem(&read(&dir.join(CA_KEY_FILE))?).map_err(PkiError::Make)?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).map_err(PkiError::Make)?;
        Ok(Self { ca_pem, dir: dir.to_owned(), issuer })
    }

    /// Loads the CA in `dir`, or makes one.
    pub fn load_or_create(dir: impl AsRef<Path>, region: &str) -> Result<Self, PkiError> {
        match Self::create(dir.as_ref(), region) {
            Err(PkiError::Exists { .. }) => Self::load(dir),
            other => other,
        }
    }

    /// What introduction tokens are made with.
    pub fn introduction_key(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, role: Role, name: &str, region: &str, ttl: Duration) -> Result<Pem, PkiError> {
        self.issue_of(role, name, region, ttl, "")
    }

    fn issue_of(&self, role: Role, name: &str, region: &str, ttl: Duration, mark: &str) -> Result<Pem, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let cert = leaf(role, name, region, ttl, mark)?.signed_by(&key, &self.issuer).map_err(PkiError::Make)?;
        Ok(Pem { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Signs the public key of a certificate request; what the request asks for is not looked at.
    pub fn sign_csr(
        &self,
        csr_pem: &str,
        role: Role,
        name: &str,
        region: &str,
        ttl: Duration,
    ) -> Result<String, PkiError> {
        self.sign_csr_of(csr_pem, role, name, region, ttl, "")
    }

    /// The same for a node that was purged and admitted again: the certificate carries the admission's mark.
    pub fn sign_csr_of(
        &self,
        csr_pem: &str,
        role: Role,
        name: &str,
        region: &str,
        ttl: Duration,
        mark: &str,
    ) -> Result<String, PkiError> {
        if csr_pem.len() > CSR_BYTES_MAX {
            return Err(PkiError::TooLong);
        }
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(PkiError::Request)?;
        csr.params = leaf(role, name, region, ttl, mark)?;
        Ok(csr.signed_by(&self.issuer).map_err(PkiError::Make)?.pem())
    }

    /// Issues an identity into `dir` as a process loads it. Control-plane roles get the gossip key
    /// too; agents and operators take no part in gossip.
    pub fn write_identity(
        &self,
        dir: impl AsRef<Path>,
        role: Role,
        name: &str,
        region: &str,
        ttl: Duration,
    ) -> Result<(), PkiError> {
        let dir = dir.as_ref();
        // A node keeps the mark of its introduction.
        let known = read_certs(&dir.join(CERT_FILE)).ok().and_then(|chain| PeerIdentity::from_der(chain.first()?).ok());
        let known = known.filter(|known| role == Role::Agent && known.role == role && known.name == name);
        let mark = known.map(|known| known.admission).unwrap_or_default();
        let pem = self.issue_of(role, name, region, ttl, &mark)?;
        make_dir(dir)?;
        write_identity(dir, &self.ca_pem, &pem)?;
        // One that is there may have been turned since.
        if !matches!(role, Role::Agent | Role::Operator) && !dir.join(GOSSIP_KEY_FILE).exists() {
            let key = read(&self.dir.join(GOSSIP_KEY_FILE))?;
            replace(&dir.join(GOSSIP_KEY_FILE), key.as_bytes(), 0o600)?;
        }
        Ok(())
    }
}

/// Writes the three files of an identity, each replaced at once, the certificate last.
pub fn write_identity(dir: &Path, ca_pem: &str, pem: &Pem) -> Result<(), PkiError> {
    make_dir(dir)?;
    replace(&dir.join(CA_FILE), ca_pem.as_bytes(), 0o644)?;
    replace(&dir.join(KEY_FILE), pem.key.as_bytes(), 0o600)?;
    replace(&dir.join(CERT_FILE), pem.cert.as_bytes(), 0o644)
}

/// A fresh key and a request to sign it, for [`Authority::sign_csr`].
pub struct Request {
    pub csr: String,
    pub key: String,
}

/// Makes a key that never leaves the caller, and the request for a certificate.
pub fn request() -> Result<Request, PkiError> {
    let key = KeyPair::generate().map_err(PkiError::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("steppe");
    let csr = params.serialize_request(&key).and_then(|r| r.pem()).map_err(PkiError::Make)?;
    Ok(Request { csr, key: key.serialize_pem() })
}

/// Makes a gossip key: 32 random bytes, base64. Never replaces one that is there.
pub fn create_gossip_key(path: &Path) -> Result<(), PkiError> {
    let text = base64::engine::general_purpose::STANDARD.encode(random::<32>()?);
    create_new(path, text.as_bytes(), 0o600)
}

fn leaf(role: Role, name: &str, region: &str, ttl: Duration, mark: &str) -> Result<CertificateParams, PkiError> {
    if !is_name(name) {
        return Err(PkiError::Name(name.to_owned()));
    }
    if !is_label(region) {
        return Err(PkiError::Name(region.to_owned()));
    }
    if !mark.is_empty() && !is_label(mark) {
        return Err(PkiError::Name(mark.to_owned()));
    }
    let full = dns_name(name, role, region);
    let names = [full.clone()].into_iter().chain((!mark.is_empty()).then(|| admission_name(mark)));
    let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(PkiError::Make)?;
    params.distinguished_name = common_name(full.get(..64).unwrap_or(&full));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, ttl.min(LEAF_TTL_MAX))?;
    Ok(params)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

pub(crate) fn validity(params: &mut CertificateParams, ttl: Duration) -> Result<(), PkiError> {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + ttl).into();
    let mut serial = random::<16>()?;
    // Positive and never short, so that its hex form has one length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| PkiError::Randomness)?;
    Ok(bytes)
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> PkiError + '_ {
    move |source| PkiError::File { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(file_error(path))
}

fn make_dir(dir: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file_error(dir))
}

fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    files::create_new(path, bytes, mode).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.to_owned() },
        _ => file_error(path)(error),
    })
}

/// See [`files::replace`].
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    files::replace(path, bytes, mode).map_err(file_error(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use client::tls::Identity;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_issued_identity_loads_and_says_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path().join("ca"), "global").unwrap();
        let id = dir.path().join("id");
        ca.write_identity(&id, Role::State, "state-1", "global", DAY).unwrap();
        let identity = Identity::load(&id).unwrap();
        assert_eq!(identity.me().to_string(), "state-1.state.global.steppe");
        assert_eq!(identity.me().serial.len(), 32);
        assert!(id.join(GOSSIP_KEY_FILE).exists());
        let left = identity.not_after().duration_since(SystemTime::now()).unwrap();
        assert!(left > DAY / 2 && left <= DAY);
        for (file, mode) in [(id.join(KEY_FILE), 0o600), (dir.path().join("ca").join(CA_KEY_FILE), 0o600)] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn a_ca_is_made_once_and_loaded_after_that() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), "global").unwrap();
        assert!(matches!(Authority::create(dir.path(), "global"), Err(PkiError::Exists { .. })));
        let again = Authority::load_or_create(dir.path(), "global").unwrap();
        assert_eq!(first.ca_pem(), again.ca_pem());
    }

    #[test]
    fn whoever_has_the_secret_makes_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, secret: &[u8]| Authority::create_from(dir.path().join(name), "global", secret).unwrap();
        let (one, two, other) = (make("1", b"secret"), make("2", b"secret"), make("3", b"another"));
        // One's certificate beside two's authority is good; beside another's it is not.
        let pem = one.issue(Role::State, "a", "global", DAY).unwrap();
        let chain = |ca: &Authority| {
            let mut roots = rustls::RootCertStore::empty();
            use rustls::pki_types::pem::PemObject as _;
            roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).unwrap()).unwrap();
            let leaf = rustls::pki_types::CertificateDer::from_pem_slice(pem.cert.as_bytes()).unwrap();
            let leaf = rustls::server::ParsedCertificate::try_from(&leaf).unwrap();
            let all = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
            let now = rustls::pki_types::UnixTime::now();
            rustls::client::verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, all).is_ok()
        };
        assert!(chain(&one) && chain(&two) && !chain(&other));
    }

    #[test]
    fn a_request_decides_nothing_but_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "global").unwrap();
        // Asks for a CA certificate in another's name.
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["x.state.global.steppe".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let cert = ca.sign_csr(&csr, Role::Agent, "n1", "global", DAY).unwrap();
        let id = dir.path().join("id");
        write_identity(&id, ca.ca_pem(), &Pem { cert, key: key.serialize_pem() }).unwrap();
        assert_eq!(Identity::load(&id).unwrap().me().to_string(), "n1.agent.global.steppe");

        let made = request().unwrap();
        assert!(ca.sign_csr(&made.csr, Role::Agent, "n2", "global", DAY).is_ok());
        for bad in ["", "-----BEGIN NONSENSE-----", &made.key] {
            assert!(matches!(ca.sign_csr(bad, Role::Agent, "n", "global", DAY), Err(PkiError::Request(_))));
        }
        let long = "x".repeat(CSR_BYTES_MAX + 1);
        assert!(matches!(ca.sign_csr(&long, Role::Agent, "n", "global", DAY), Err(PkiError::TooLong)));
    }

    #[test]
    fn names_that_could_be_read_as_another_role_or_region_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "global").unwrap();
        for (name, region) in [("", "global"), ("a b", "global"), ("a", "eu.west"), ("a", ""), ("a..b", "global")] {
            assert!(matches!(ca.issue(Role::Agent, name, region, DAY), Err(PkiError::Name(_))), "{name} {region}");
        }
    }

    #[test]
    fn a_key_that_does_not_fit_its_certificate_is_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "global").unwrap();
        let mut pem = ca.issue(Role::State, "a", "global", DAY).unwrap();
        pem.key = ca.issue(Role::State, "a", "global", DAY).unwrap().key;
        write_identity(&dir.path().join("id"), ca.ca_pem(), &pem).unwrap();
        assert!(Identity::load(dir.path().join("id")).is_err());
    }
}
