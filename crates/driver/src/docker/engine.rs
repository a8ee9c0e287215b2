//! Talking to the Docker Engine: one place that connects, bounds every call in time and says what an error
//! means.
//!
//! Each request has a connection of its own. On a local socket that costs some microseconds, and an idle
//! agent then holds no connection and no buffer. Calls that answer at once have [`CALL_MAX`]; streams (waiting
//! for an end, following output, pulling) have no limit here, their owners do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{BollardRequest, Docker};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::options::{Options, TlsFiles};

/// A call that answers at once takes no longer, or the daemon is as good as gone.
pub(super) const CALL_MAX: Duration = Duration::from_secs(60);
/// Connecting to a daemon that is there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The library's own limit until an answer begins; ours are tighter where it matters.
const LIBRARY_SECONDS_MAX: u64 = 600;
const SOCKET: &str = "/var/run/docker.sock";
const CREATE: &str = "/containers/create";
const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// Where the daemon is.
#[derive(Clone)]
enum Endpoint {
    Socket(PathBuf),
    Tcp { addr: String, tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)> },
}

/// Makes a client of the daemon. Nothing is connected yet.
///
/// # Errors
/// A sentence: the endpoint or the TLS files cannot be used.
pub(super) fn connect(options: &Options) -> Result<Docker, String> {
    let endpoint = Endpoint::of(options)?;
    let transport = move |request: BollardRequest| send(endpoint.clone(), request);
    Docker::connect_with_custom_transport(
        transport,
        Some("http://docker"),
        LIBRARY_SECONDS_MAX,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|e| e.to_string())
}

/// Whether a text names an endpoint; nothing names the usual one.
///
/// # Errors
/// A sentence.
pub(super) fn check_endpoint(given: &str) -> Result<(), String> {
    match given.split_once("://") {
        _ if given.is_empty() => Ok(()),
        Some(("unix", path)) if path.starts_with('/') => Ok(()),
        Some(("tcp" | "http" | "https", addr)) if !addr.is_empty() => Ok(()),
        _ => Err(no_endpoint(given)),
    }
}

fn no_endpoint(given: &str) -> String {
    format!("docker endpoint {given:?} is neither unix:///path nor tcp://host:port")
}

impl Endpoint {
    fn of(options: &Options) -> Result<Self, String> {
        let from_env = || std::env::var("DOCKER_HOST").unwrap_or_default();
        let given = if options.endpoint.is_empty() { from_env() } else { options.endpoint.clone() };
        if given.is_empty() {
            return Ok(Self::Socket(PathBuf::from(SOCKET)));
        }
        match given.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Socket(PathBuf::from(path))),
            Some(("tcp" | "http" | "https", addr)) if !addr.is_empty() => {
                let addr = addr.trim_end_matches('/').to_owned();
                let host = addr.rsplit_once(':').map_or(addr.as_str(), |(host, _)| host).trim_matches(['[', ']']);
                let tls = match options.tls == TlsFiles::default() {
                    true => None,
                    false => {
                        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host}: {e}"))?;
                        Some((Arc::new(tls_config(&options.tls)?), name))
                    }
                };
                Ok(Self::Tcp { addr, tls })
            }
            _ => Err(no_endpoint(&given)),
        }
    }
}

fn tls_config(files: &TlsFiles) -> Result<rustls::ClientConfig, String> {
    let at = |path: &str, e: &dyn std::fmt::Display| format!("{path}: {e}");
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(&files.ca).map_err(|e| at(&files.ca, &e))? {
        roots.add(cert.map_err(|e| at(&files.ca, &e))?).map_err(|e| at(&files.ca, &e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?.with_root_certificates(roots);
    if files.cert.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let certs = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| at(&files.key, &e))?;
    builder.with_client_auth_cert(certs.map_err(|e| at(&files.cert, &e))?, key).map_err(|e| at(&files.cert, &e))
}

async fn send(endpoint: Endpoint, request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let io = |e: std::io::Error| Error::IOError { err: e };
    let late = || io(std::io::Error::new(std::io::ErrorKind::TimedOut, "Docker does not accept connections"));
    match endpoint {
        Endpoint::Socket(path) => {
            let connecting = tokio::time::timeout(CONNECT_MAX, UnixStream::connect(&path));
            exchange(connecting.await.map_err(|_| late())?.map_err(io)?, request).await
        }
        Endpoint::Tcp { addr, tls } => {
            let connecting = async {
                let stream = TcpStream::connect(&addr).await?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(stream)
            };
            let stream = tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(|_| late())?.map_err(io)?;
            match tls {
                None => exchange(stream, request).await,
                Some((config, name)) => {
                    let shaking = tokio_rustls::TlsConnector::from(config).connect(name, stream);
                    let stream = tokio::time::timeout(CONNECT_MAX, shaking).await.map_err(|_| late())?;
                    exchange(stream.map_err(io)?, request).await
                }
            }
        }
    }
}

async fn exchange<S>(stream: S, mut request: BollardRequest) -> Result<Response<Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body, or when the caller lets go of it.
    tokio::spawn(connection.with_upgrades());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
    *request.uri_mut() = path.map_err(|e: http::uri::InvalidUri| Error::IOError { err: std::io::Error::other(e) })?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
    if !request.headers().contains_key(UPGRADE) {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // The daemon reads URL-safe base64, and takes anything else for no credentials at all.
    if let Some(value) = request.headers_mut().get_mut(REGISTRY_AUTH)
        && let Ok(text) = value.to_str()
        && let Ok(safe) = HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        *value = safe;
    }
    if request.method() == http::Method::POST && request.uri().path() == CREATE {
        request = with_own_address(request).await?;
    }
    Ok(sender.send_request(request).await?)
}

/// An engine before API 1.44 reads a container's MAC address beside everything else, a newer one with its network; one
/// that reads both wants them to be the same. The library's shapes have the newer place only.
async fn with_own_address(request: BollardRequest) -> Result<BollardRequest, Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|e| Error::IOError { err: std::io::Error::other(e) })?.to_bytes();
    Ok(BollardRequest::from_parts(parts, bollard::body_full(address_at_top(body))))
}

fn address_at_top(body: bytes::Bytes) -> bytes::Bytes {
    let Ok(mut all) = serde_json::from_slice::<serde_json::Value>(&body) else { return body };
    let network = all["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
    let address = all["NetworkingConfig"]["EndpointsConfig"][network]["MacAddress"].clone();
    if !address.is_string() {
        return body;
    }
    all["MacAddress"] = address;
    all.to_string().into()
}

/// What an error of the daemon means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The daemon cannot be reached or broke off: nothing is known.
    Unreachable,
    NotFound,
    /// A name that is taken, a state that does not fit.
    Conflict,
    NotModified,
    /// The daemon failed inside.
    Failed,
    /// The daemon refuses what it was asked.
    Refused,
}

pub(super) fn meaning(error: &Error) -> Meaning {
    match error {
        Error::DockerResponseServerError { status_code, .. } => match *status_code {
            304 => Meaning::NotModified,
            404 => Meaning::NotFound,
            409 => Meaning::Conflict,
            500.. => Meaning::Failed,
            _ => Meaning::Refused,
        },
        Error::IOError { .. } | Error::HyperResponseError { .. } | Error::RequestTimeoutError => Meaning::Unreachable,
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => Meaning::Failed,
        _ => Meaning::Refused,
    }
}

/// The daemon's own sentence, in one line.
pub(super) fn sentence(error: &Error) -> String {
    let text = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        Error::IOError { err } => format!("Docker cannot be reached: {err}"),
        Error::HyperResponseError { err } => format!("the connection to Docker broke: {err}"),
        Error::RequestTimeoutError => "Docker did not answer in time".to_owned(),
        other => other.to_string(),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(1000).collect()
}

/// Gives a call its limit.
pub(super) async fn timely<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or(Err(Error::RequestTimeoutError))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_none_is_refused_in_words() {
        for bad in ["/var/run/docker.sock", "unix://relative", "tcp://", "ftp://x"] {
            let options = Options { endpoint: bad.to_owned(), ..Options::default() };
            assert!(connect(&options).unwrap_err().contains("neither"), "{bad}");
        }
        for good in ["unix:///run/x.sock", "tcp://127.0.0.1:2375"] {
            assert!(connect(&Options { endpoint: good.to_owned(), ..Options::default() }).is_ok(), "{good}");
        }
        let tls = TlsFiles { ca: "/does/not/exist".into(), ..TlsFiles::default() };
        let options = Options { endpoint: "tcp://h:1".into(), tls, ..Options::default() };
        assert!(connect(&options).unwrap_err().contains("/does/not/exist"));
    }

    #[test]
    fn a_mac_address_is_at_both_places_and_nothing_else_is_touched() {
        let json = |text: bytes::Bytes| serde_json::from_slice::<serde_json::Value>(&text).unwrap();
        let body = r#"{"Image":"i","HostConfig":{"NetworkMode":"n"},"NetworkingConfig":{"EndpointsConfig":{"n":{"MacAddress":"a"}}}}"#;
        let mut wanted = json(body.into());
        wanted["MacAddress"] = "a".into();
        assert_eq!(json(address_at_top(body.into())), wanted);
        for same in [r#"{"Image":"i"}"#, r#"{"HostConfig":{"NetworkMode":"m"},"NetworkingConfig":null}"#, "no json"] {
            assert_eq!(address_at_top(same.into()), same);
        }
    }

    #[test]
    fn a_sentence_is_one_line_of_bounded_length() {
        let message = format!("a\n b {}", "x".repeat(5000));
        let error = Error::DockerResponseServerError { status_code: 409, message };
        assert!(sentence(&error).starts_with("a b xx") && sentence(&error).len() == 1000);
        assert_eq!(meaning(&error), Meaning::Conflict);
    }
}
