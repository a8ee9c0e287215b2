//! Connecting to the public API: address forms, TLS as browsers know it, Unix sockets.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{PublicError, Settings};
use crate::judge::{Anybody, Verifier};
use crate::tls::{TlsError, provider, read_certs, read_key};

const PORT: u16 = 4646;
/// Most files of a directory of authorities.
const CA_FILES_MAX: usize = 1_000;
/// Where systems keep the CAs they trust.
const SYSTEM_CAS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(super) type Sender = http1::SendRequest<Full<Bytes>>;

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, PublicError> {
        let bad = || PublicError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(bad)?;
        if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
            return Err(bad());
        }
        // Ports 80 and 443 as everywhere, unless there is no scheme at all.
        let default = match (text.contains("://"), tls) {
            (false, _) => PORT,
            (true, false) => 80,
            (true, true) => 443,
        };
        let port = uri.port_u16().unwrap_or(default);
        Ok(Self::Tcp { host: host.to_owned(), port, tls })
    }

    pub(super) fn host_header(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// How to connect, made once.
pub(super) struct Connector {
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(address: &Address, settings: &Settings) -> Result<Self, PublicError> {
        let Address::Tcp { host, tls: true, .. } = address else {
            return Ok(Self { tls: None });
        };
        let name = settings.tls_server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| PublicError::Address(settings.address.clone()))?;
        let config = client_config(settings)?;
        Ok(Self { tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }

    pub(super) async fn connect(&self, address: &Address) -> io::Result<Sender> {
        match (address, &self.tls) {
            (Address::Unix(path), _) => handshake(UnixStream::connect(path).await?).await,
            (Address::Tcp { host, port, .. }, tls) => {
                let tcp = TcpStream::connect((host.trim_matches(['[', ']']), *port)).await?;
                tcp.set_nodelay(true)?;
                match tls {
                    None => handshake(tcp).await,
                    Some((connector, name)) => handshake(connector.connect(name.clone(), tcp).await?).await,
                }
            }
        }
    }
}

async fn handshake<S>(stream: S) -> io::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(sender)
}

fn client_config(settings: &Settings) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Material)?;
    let builder = if settings.tls_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier(Anybody)))
    } else {
        builder.with_root_certificates(roots(settings)?)
    };
    let mut config = match (&settings.client_cert, &settings.client_key) {
        (Some(cert), Some(key)) => {
            builder.with_client_auth_cert(read_certs(cert)?, read_key(key)?).map_err(TlsError::Material)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfAPair),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(settings: &Settings) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let named = match (&settings.ca_cert, &settings.ca_path) {
        (Some(file), _) => vec![file.clone()],
        (None, Some(dir)) => files_in(dir)?,
        (None, None) => Vec::new(),
    };
    for path in &named {
        for cert in read_certs(path)? {
            roots.add(cert).map_err(TlsError::Material)?;
        }
    }
    if !named.is_empty() {
        return Ok(roots);
    }
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let system = named.or_else(|| SYSTEM_CAS.iter().map(PathBuf::from).find(|p| p.exists()));
    if let Some(path) = system {
        // A system's list may hold what we cannot read; the rest is good.
        roots.add_parsable_certificates(crate::tls::read_bundle(&path)?);
    }
    Ok(roots)
}

/// The files in a directory of authorities, each of which must be one.
fn files_in(dir: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let fail = |source| TlsError::Read { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    let unfit = |reason: String| Err(TlsError::File { path: dir.to_owned(), reason });
    match files.len() {
        0 => unfit("it holds no file".to_owned()),
        n if n > CA_FILES_MAX => unfit(format!("it holds more than {CA_FILES_MAX} files")),
        _ => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_four_forms() {
        let tcp = |host: &str, port, tls| Address::Tcp { host: host.to_owned(), port, tls };
        assert_eq!(Address::parse("http://a:1").unwrap(), tcp("a", 1, false));
        assert_eq!(Address::parse("https://a").unwrap(), tcp("a", 443, true));
        assert_eq!(Address::parse("127.0.0.1:4646/").unwrap(), tcp("127.0.0.1", 4646, false));
        assert_eq!(Address::parse("a").unwrap(), tcp("a", 4646, false));
        assert_eq!(Address::parse("http://[::1]:80").unwrap(), tcp("[::1]", 80, false));
        assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        for bad in ["", "ftp://a", "http://", "unix://x", "http://a/v1", "http://a b", "http://a?x=1"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
