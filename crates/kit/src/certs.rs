//! Certificates of an operator's, for `tls {}`: what `steppe tls` makes and reads.
//!
//! They are apart from the cluster's own (see [`crate::pki`]): an authority of the operator's, and certificates
//! of it for servers, clients and people, as any HTTPS client understands them. A server's certificate is named
//! `server.<region>.<domain>`, and so on; all of them may stand for this machine too.
//!
//! Pure but for the clock, the random source and [`save`], which never replaces a file.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData as _, SanType,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pki::{Pem, PkiError, validity};

const PEM_BYTES_MAX: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);
/// A hundred years.
pub const DAYS_MAX: u32 = 36_500;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    #[error("{0} is there already, and is not replaced")]
    Exists(PathBuf),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("days must be from 1 to {DAYS_MAX}")]
    Days,
    #[error("`{0}` is no name that can stand in a certificate")]
    Name(String),
    #[error("what is given is no certificate: {0}")]
    NotACertificate(String),
    #[error("the certificate is not of an authority")]
    NotAnAuthority,
    #[error("the authority's certificate has expired")]
    AuthorityExpired,
    #[error("the key is not the key of the authority's certificate")]
    WrongKey,
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Who an authority is; empty parts are left out.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    pub common_name: String,
    pub country: String,
    pub postal_code: String,
    pub province: String,
    pub locality: String,
    pub street_address: String,
    pub organization: String,
    pub organizational_unit: String,
}

/// What an authority is for.
#[derive(Clone, Debug)]
pub struct AuthorityWish {
    pub subject: Subject,
    pub days: u32,
    /// Only names in these domains may be certified; empty: any.
    pub domains: Vec<String>,
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Server,
    Client,
    Cli,
}

impl Holder {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Cli => "cli",
        }
    }

    /// `server.global.nomad`.
    pub fn name(self, region: &str, domain: &str) -> String {
        format!("{}.{region}.{domain}", self.as_str())
    }
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct LeafWish {
    pub holder: Holder,
    pub region: String,
    pub domain: String,
    pub days: u32,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// Makes an authority.
///
/// # Errors
/// A wish that cannot be met.
pub fn authority(wish: &AuthorityWish) -> Result<Pem, CertsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(&wish.subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    if !wish.domains.is_empty() {
        let permitted_subtrees = wish.domains.iter().map(|d| dns(d).map(|d| GeneralSubtree::DnsName(d.to_string())));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted_subtrees.collect::<Result<_, _>>()?,
            excluded_subtrees: Vec::new(),
        });
    }
    validity(&mut params, lifetime(wish.days)?)?;
    let key = KeyPair::generate().map_err(CertsError::Make)?;
    let cert = params.self_signed(&key).map_err(CertsError::Make)?;
    Ok(Pem { cert: cert.pem(), key: key.serialize_pem() })
}

/// Makes a certificate of this authority; it ends no later than the authority does.
///
/// # Errors
/// The authority is none, has expired, or its key is another's; or a wish that cannot be met.
pub fn certificate(ca_pem: &str, ca_key_pem: &str, wish: &LeafWish) -> Result<Pem, CertsError> {
    let facts = Facts::read(ca_pem)?;
    if !facts.is_authority {
        return Err(CertsError::NotAnAuthority);
    }
    let left = facts.not_after.duration_since(SystemTime::now()).map_err(|_| CertsError::AuthorityExpired)?;
    let ca_key = KeyPair::from_pem(ca_key_pem).map_err(CertsError::Make)?;
    if ca_key.subject_public_key_info() != facts.public_key {
        return Err(CertsError::WrongKey);
    }
    let issuer = Issuer::from_ca_cert_pem(ca_pem, ca_key).map_err(CertsError::Make)?;

    let name = wish.holder.name(&wish.region, &wish.domain);
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(&Subject { common_name: name.clone(), ..Subject::default() });
    for name in [name.as_str(), "localhost"].into_iter().chain(wish.dns_names.iter().map(String::as_str)) {
        params.subject_alt_names.push(SanType::DnsName(dns(name)?));
    }
    if wish.holder != Holder::Cli {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    }
    params.subject_alt_names.extend(wish.addresses.iter().copied().map(SanType::IpAddress));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = match wish.holder {
        Holder::Cli => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Holder::Server | Holder::Client => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
    };
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, lifetime(wish.days)?.min(left))?;
    let key = KeyPair::generate().map_err(CertsError::Make)?;
    let cert = params.signed_by(&key, &issuer).map_err(CertsError::Make)?;
    Ok(Pem { cert: cert.pem(), key: key.serialize_pem() })
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// In decimal, as certificates' serial numbers are usually shown.
    pub serial: String,
    pub issuer: String,
    pub common_name: String,
    pub not_after: SystemTime,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub permitted_domains: Vec<String>,
    pub is_authority: bool,
    public_key: Vec<u8>,
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// There is none.
    pub fn read(pem: &str) -> Result<Self, CertsError> {
        let bad = |e: &dyn std::fmt::Display| CertsError::NotACertificate(e.to_string());
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| bad(&e))?;
        if pem.label != "CERTIFICATE" {
            return Err(bad(&format!("it is a {}", pem.label)));
        }
        let (_, cert) = X509Certificate::from_der(&pem.contents).map_err(|e| bad(&e))?;
        let name = |name: &x509_parser::x509::X509Name<'_>| {
            name.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default().to_owned()
        };
        let mut facts = Self {
            serial: cert.serial.to_string(),
            issuer: name(cert.issuer()),
            common_name: name(cert.subject()),
            not_after: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0)),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            permitted_domains: Vec::new(),
            is_authority: cert.is_ca(),
            public_key: cert.public_key().raw.to_vec(),
        };
        if let Some(names) = cert.subject_alternative_name().map_err(|e| bad(&e))? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(dns) => facts.dns_names.push((*dns).to_owned()),
                    GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let constraints = cert.name_constraints().map_err(|e| bad(&e))?;
        let permitted = constraints.and_then(|c| c.value.permitted_subtrees.as_ref());
        for subtree in permitted.into_iter().flatten() {
            if let GeneralName::DNSName(dns) = subtree.base {
                facts.permitted_domains.push(dns.to_owned());
            }
        }
        Ok(facts)
    }
}

/// Writes a new file; `private` ones can be read by their owner only.
///
/// # Errors
/// There is one already, or it cannot be written.
pub fn save(path: &Path, text: &str, private: bool) -> Result<(), CertsError> {
    let mode = if private { 0o600 } else { 0o644 };
    files::create_new(path, text.as_bytes(), mode).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path.to_owned()),
        _ => CertsError::File { path: path.to_owned(), source },
    })
}

/// Reads a PEM file.
///
/// # Errors
/// It cannot be read, or is too long to be one.
pub fn read(path: &Path) -> Result<String, CertsError> {
    let fail = |source| CertsError::File { path: path.to_owned(), source };
    let meta = fs::metadata(path).map_err(fail)?;
    if !meta.is_file() || meta.len() > PEM_BYTES_MAX {
        return Err(fail(io::Error::other(format!("not a file of at most {PEM_BYTES_MAX} bytes"))));
    }
    fs::read_to_string(path).map_err(fail)
}

fn lifetime(days: u32) -> Result<Duration, CertsError> {
    if (1..=DAYS_MAX).contains(&days) { Ok(DAY * days) } else { Err(CertsError::Days) }
}

fn dns(name: &str) -> Result<rcgen::string::Ia5String, CertsError> {
    let bad = || CertsError::Name(name.to_owned());
    // A name as one may ask for it, or all names of a domain.
    let plain = name.strip_prefix("*.").unwrap_or(name);
    rustls::pki_types::DnsName::try_from(plain).map_err(|_| bad())?;
    name.try_into().map_err(|_| bad())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn distinguished(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let parts = [
        (DnType::CountryName, &subject.country),
        (DnType::CustomDnType(vec![2, 5, 4, 17]), &subject.postal_code),
        (DnType::StateOrProvinceName, &subject.province),
        (DnType::LocalityName, &subject.locality),
        (DnType::CustomDnType(vec![2, 5, 4, 9]), &subject.street_address),
        (DnType::OrganizationName, &subject.organization),
        (DnType::OrganizationalUnitName, &subject.organizational_unit),
        (DnType::CommonName, &subject.common_name),
    ];
    for (kind, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
        name.push(kind, text.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(domains: &[&str]) -> Pem {
        let subject = Subject { common_name: "ours".into(), country: "DE".into(), ..Subject::default() };
        authority(&AuthorityWish { subject, days: 10, domains: domains.iter().map(ToString::to_string).collect() })
            .unwrap()
    }

    fn wish(holder: Holder) -> LeafWish {
        LeafWish {
            holder,
            region: "global".into(),
            domain: "nomad".into(),
            days: 365,
            dns_names: vec!["a.example".into(), "*.b.example".into()],
            addresses: vec!["::1".parse().unwrap()],
        }
    }

    #[test]
    fn a_certificate_says_what_was_wished_and_ends_with_its_authority() {
        let ca = ca(&["nomad", "localhost", "example"]);
        let of_ca = Facts::read(&ca.cert).unwrap();
        assert!(of_ca.is_authority);
        assert_eq!(of_ca.permitted_domains, ["nomad", "localhost", "example"]);
        let leaf = certificate(&ca.cert, &ca.key, &wish(Holder::Server)).unwrap();
        let facts = Facts::read(&leaf.cert).unwrap();
        assert_eq!((facts.common_name.as_str(), facts.issuer.as_str()), ("server.global.nomad", "ours"));
        assert_eq!(facts.dns_names, ["server.global.nomad", "localhost", "a.example", "*.b.example"]);
        assert_eq!(facts.addresses, [IpAddr::from([127, 0, 0, 1]), "::1".parse::<IpAddr>().unwrap()]);
        assert!(!facts.is_authority && facts.not_after <= of_ca.not_after);
    }

    #[test]
    fn only_an_authority_with_its_own_key_signs() {
        let (ours, theirs) = (ca(&[]), ca(&[]));
        let leaf = certificate(&ours.cert, &ours.key, &wish(Holder::Client)).unwrap();
        let sign = |cert: &str, key: &str| certificate(cert, key, &wish(Holder::Cli));
        assert!(matches!(sign(&ours.cert, &theirs.key), Err(CertsError::WrongKey)));
        assert!(matches!(sign(&leaf.cert, &leaf.key), Err(CertsError::NotAnAuthority)));
        assert!(matches!(sign(&ours.key, &ours.key), Err(CertsError::NotACertificate(_))));
        assert!(matches!(sign("", ""), Err(CertsError::NotACertificate(_))));
    }

    #[test]
    fn what_cannot_stand_in_a_certificate_is_refused() {
        let ca = ca(&[]);
        for name in ["", "a b", "a..b", "*", "ä.example"] {
            let wish = LeafWish { dns_names: vec![name.into()], ..wish(Holder::Server) };
            assert!(matches!(certificate(&ca.cert, &ca.key, &wish), Err(CertsError::Name(_))), "{name}");
        }
        for days in [0, DAYS_MAX + 1] {
            let wish = LeafWish { days, ..wish(Holder::Server) };
            assert!(matches!(certificate(&ca.cert, &ca.key, &wish), Err(CertsError::Days)));
        }
    }

    #[test]
    fn a_file_is_never_replaced_and_a_key_is_its_owner_s() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        save(&path, "one", true).unwrap();
        assert!(matches!(save(&path, "two", true), Err(CertsError::Exists(_))));
        assert_eq!(read(&path).unwrap(), "one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
