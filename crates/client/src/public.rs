//! A plain caller of the public `/v1` API, for the command line, tests and load programs.
//!
//! It knows addresses (`http`, `https`, `unix`), headers, query parameters and blocking queries;
//! what the paths mean is the caller's affair. Errors keep the status and the body's text, because
//! that text is what people and scripts match on.
//!
//! Connections are HTTP/1.1, kept alive and reused. Invariants: every call ends at its deadline
//! (a blocking one at its wait and a little more); answers have a longest length; a request is
//! sent twice only if it surely did not arrive, or if it is a GET that met a connection the server
//! had just closed.

mod connection;
mod query;
mod websocket;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::LineBuffer;
use crate::tls::TlsError;
use connection::{Address, Connector, Sender};
pub use query::{Query, segment};
pub use websocket::{Heard, WebReceiver, WebSender};

/// An idle connection older than this is not used again.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_MAX: usize = 64;
const ANSWER_BYTES_MAX: usize = 256 << 20;
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A blocking query that ends no sooner than this without news is not asked again at once.
const BLOCKING_PAUSE: Duration = Duration::from_millis(5);

/// Where the API is and how to speak to it.
#[derive(Clone)]
pub struct Settings {
    /// `http://host:port`, `https://host:port`, `unix:///path` or `host:port`.
    pub address: String,
    pub token: Option<String>,
    pub region: Option<String>,
    pub namespace: Option<String>,
    /// CA to trust; the system's if there is none.
    pub ca_cert: Option<PathBuf>,
    /// Directory of CAs to trust, one or more to a file; looked at when no file is named.
    pub ca_path: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// Name to expect in the certificate, if not the host.
    pub tls_server_name: Option<String>,
    pub tls_skip_verify: bool,
    /// Added to every request.
    pub headers: Vec<(String, String)>,
    pub connect: Duration,
    /// For one call; a blocking query has its wait on top.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:4646".to_owned(),
            token: None,
            region: None,
            namespace: None,
            ca_cert: None,
            ca_path: None,
            client_cert: None,
            client_key: None,
            tls_server_name: None,
            tls_skip_verify: false,
            headers: Vec::new(),
            connect: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tokens and headers stay out of logs.
        f.debug_struct("Settings").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A call to the public API failed.
#[derive(Debug, thiserror::Error)]
pub enum PublicError {
    #[error("address `{0}` is not usable: expected http://host:port, https://host:port or unix:///path")]
    Address(String),
    #[error("TLS settings are not usable")]
    Tls(#[from] TlsError),
    #[error("request cannot be built: {0}")]
    Request(String),
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no answer from {address} within {} ms", within.as_millis())]
    Timeout { address: String, within: Duration },
    #[error("connection to {address} broke")]
    Broken {
        address: String,
        #[source]
        source: hyper::Error,
    },
    /// The API says no; `body` is its text.
    #[error("unexpected response code: {} ({body})", status.as_u16())]
    Status { status: StatusCode, body: String },
    #[error("answer is longer than {limit_bytes} bytes")]
    TooLong { limit_bytes: usize },
    #[error("answer of {path} is not what was expected")]
    Decode {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

impl PublicError {
    /// HTTP status, if the API answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }
}

/// What an answer's headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub index: u64,
    pub known_leader: bool,
    pub last_contact: Duration,
    pub next_token: Option<String>,
}

impl Meta {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let number = |name: &str| text(name).and_then(|t| t.parse().ok()).unwrap_or(0);
        Self {
            index: number(api::headers::INDEX),
            known_leader: text(api::headers::KNOWN_LEADER) == Some("true"),
            last_contact: Duration::from_millis(number(api::headers::LAST_CONTACT)),
            next_token: text(api::headers::NEXT_TOKEN).filter(|t| !t.is_empty()).map(str::to_owned),
        }
    }
}

/// A good answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn meta(&self) -> Meta {
        Meta::of(&self.headers)
    }
}

/// Caller of the public API. Clones share connections.
#[derive(Clone)]
pub struct PublicClient(Arc<Inner>);

struct Inner {
    settings: Settings,
    address: Address,
    connector: Connector,
    headers: HeaderMap,
    idle: Mutex<Vec<(Sender, Instant)>>,
}

/// A request body: content type and bytes.
type Body = (&'static str, Bytes);

impl PublicClient {
    /// # Errors
    /// The address, TLS files, token or headers cannot be used. Nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self, PublicError> {
        let address = Address::parse(&settings.address)?;
        let connector = Connector::new(&address, &settings)?;
        let mut headers = HeaderMap::new();
        let bad = |what: &str| PublicError::Request(format!("{what} cannot be sent as a header"));
        for (name, value) in &settings.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(name))?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| bad("a header's value"))?);
        }
        if let Some(token) = settings.token.as_deref().filter(|t| !t.is_empty()) {
            let mut token = HeaderValue::from_str(token).map_err(|_| bad("the token"))?;
            token.set_sensitive(true);
            headers.insert(HeaderName::from_static(api::headers::TOKEN), token);
        }
        let host = HeaderValue::from_str(&address.host_header()).map_err(|_| bad("the host"))?;
        headers.insert(header::HOST, host);
        Ok(Self(Arc::new(Inner { settings, address, connector, headers, idle: Mutex::default() })))
    }

    /// The address as it was given.
    pub fn address(&self) -> &str {
        &self.0.settings.address
    }

    /// Reads JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<(T, Meta), PublicError> {
        let answer = self.send(Method::GET, path, query, None).await?;
        Ok((decode(path, &answer.body)?, answer.meta()))
    }

    /// Sends JSON, reads JSON.
    pub async fn put<B, T>(&self, path: &str, query: &Query, body: &B) -> Result<(T, Meta), PublicError>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let answer = self.send(Method::PUT, path, query, Some(json(body)?)).await?;
        Ok((decode(path, &answer.body)?, answer.meta()))
    }

    /// Sends JSON, reads JSON.
    pub async fn post<B, T>(&self, path: &str, query: &Query, body: &B) -> Result<(T, Meta), PublicError>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let answer = self.send(Method::POST, path, query, Some(json(body)?)).await?;
        Ok((decode(path, &answer.body)?, answer.meta()))
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<(T, Meta), PublicError> {
        let answer = self.send(Method::DELETE, path, query, None).await?;
        Ok((decode(path, &answer.body)?, answer.meta()))
    }

    /// One call, answer as it came.
    ///
    /// # Errors
    /// Any [`PublicError`]; an answer outside 2xx is [`PublicError::Status`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Option<Body>,
    ) -> Result<Answer, PublicError> {
        let within = self.0.settings.timeout + query.wait_max();
        let work = async {
            let (response, sender) = self.begin(method, path, query, body).await?;
            let answer = collect(self.address(), response).await;
            if matches!(answer, Ok(_) | Err(PublicError::Status { .. })) {
                self.checkin(sender);
            }
            answer
        };
        tokio::time::timeout(within, work).await.map_err(|_| self.timed_out(within))?
    }

    /// Opens an answer that goes on: logs, events. The usual timeout covers its head only.
    pub async fn stream(&self, path: &str, query: &Query) -> Result<PublicStream, PublicError> {
        let within = self.0.settings.timeout;
        let work = async {
            let (response, sender) = self.begin(Method::GET, path, query, None).await?;
            if response.status().is_success() {
                let address = self.0.settings.address.clone();
                return Ok(PublicStream { address, body: response.into_body(), _sender: sender });
            }
            match collect(self.address(), response).await {
                Err(error) => Err(error),
                Ok(_) => Err(PublicError::Request("error answer without status".to_owned())),
            }
        };
        tokio::time::timeout(within, work).await.map_err(|_| self.timed_out(within))?
    }

    /// Follows a path by blocking queries; see [`Blocking::next`].
    pub fn blocking<T: DeserializeOwned>(&self, path: impl Into<String>, query: Query) -> Blocking<T> {
        Blocking { client: self.clone(), path: path.into(), query, _of: std::marker::PhantomData }
    }

    fn timed_out(&self, within: Duration) -> PublicError {
        PublicError::Timeout { address: self.address().to_owned(), within }
    }

    /// Sends a request and waits for the answer's head.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Option<Body>,
    ) -> Result<(http::Response<Incoming>, Sender), PublicError> {
        let settings = &self.0.settings;
        let uri = query.uri(path, settings.region.as_deref(), settings.namespace.as_deref());
        let mut again = method == Method::GET;
        let mut request = self.request(&method, &uri, body.as_ref(), query.accept)?;
        loop {
            let (mut sender, reused) = match self.checkout().await {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            let mut failure = match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(failure) => failure,
            };
            match failure.take_message() {
                Some(unsent) if reused => request = unsent,
                None if reused && again => {
                    again = false;
                    request = self.request(&method, &uri, body.as_ref(), query.accept)?;
                }
                _ => {
                    return Err(PublicError::Broken {
                        address: self.address().to_owned(),
                        source: failure.into_error(),
                    });
                }
            }
        }
    }

    fn request(
        &self,
        method: &Method,
        uri: &str,
        body: Option<&Body>,
        accept: Option<&'static str>,
    ) -> Result<http::Request<Full<Bytes>>, PublicError> {
        let (kind, bytes) = match body {
            Some((kind, bytes)) => (Some(*kind), bytes.clone()),
            None => (None, Bytes::new()),
        };
        let mut request = http::Request::new(Full::new(bytes));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.parse().map_err(|_| PublicError::Request(format!("bad path `{uri}`")))?;
        *request.headers_mut() = self.0.headers.clone();
        if let Some(kind) = kind {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(accept) = accept {
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Sender, PublicError> {
        let limit = self.0.settings.connect;
        let work = self.0.connector.connect(&self.0.address);
        let result = match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        result.map_err(|source| PublicError::Connect { address: self.address().to_owned(), source })
    }

    async fn checkout(&self) -> Option<Sender> {
        loop {
            let (mut sender, since) = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < IDLE && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn checkin(&self, sender: Sender) {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE);
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }
}

fn json<B: Serialize + ?Sized>(body: &B) -> Result<Body, PublicError> {
    let bytes = serde_json::to_vec(body).map_err(|e| PublicError::Request(e.to_string()))?;
    Ok(("application/json", bytes.into()))
}

fn decode<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, PublicError> {
    // A success without a body reads as `null`, so that `()` and `Option` work.
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|source| PublicError::Decode { path: path.to_owned(), source })
}

async fn collect(address: &str, response: http::Response<Incoming>) -> Result<Answer, PublicError> {
    let (head, mut body) = response.into_parts();
    let good = head.status.is_success();
    let limit_bytes = if good { ANSWER_BYTES_MAX } else { ERROR_BYTES_MAX };
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| PublicError::Broken { address: address.to_owned(), source })?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > limit_bytes {
                return Err(PublicError::TooLong { limit_bytes });
            }
            whole.extend_from_slice(&data);
        }
    }
    if !good {
        let body = String::from_utf8_lossy(&whole).trim_end_matches('\n').to_owned();
        return Err(PublicError::Status { status: head.status, body });
    }
    Ok(Answer { status: head.status, headers: head.headers, body: whole.freeze() })
}

/// An open answer. Dropping it closes it.
pub struct PublicStream {
    address: String,
    body: Incoming,
    _sender: Sender,
}

impl PublicStream {
    /// The next piece; `None` at the end. May be cancelled without loss.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PublicError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| PublicError::Broken { address: self.address.clone(), source })?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Splits into lines of at most `bytes_max` each; empty ones are passed over.
    pub fn lines(self, bytes_max: usize) -> PublicLines {
        PublicLines { stream: self, buffer: LineBuffer::new(bytes_max) }
    }
}

/// The lines of a [`PublicStream`].
pub struct PublicLines {
    stream: PublicStream,
    buffer: LineBuffer,
}

impl PublicLines {
    /// The next line; `None` at the end. May be cancelled without loss.
    pub async fn next(&mut self) -> Result<Option<Bytes>, PublicError> {
        loop {
            if let Some(line) = self.buffer.line().map_err(|limit_bytes| PublicError::TooLong { limit_bytes })? {
                return Ok(Some(line));
            }
            match self.stream.chunk().await? {
                Some(piece) => self.buffer.push(&piece),
                None => return Ok(None),
            }
        }
    }
}

/// Follows one path: each answer is newer than the one before.
pub struct Blocking<T> {
    client: PublicClient,
    path: String,
    query: Query,
    _of: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Blocking<T> {
    /// The first answer at once; after that, the next one with another index. An index that went
    /// backwards (a restored cluster) begins anew. After an error, the next call asks again.
    pub async fn next(&mut self) -> Result<(T, Meta), PublicError> {
        loop {
            let start = Instant::now();
            let (value, meta) = self.client.get(&self.path, &self.query).await?;
            let before = self.query.index;
            if meta.index < before {
                self.query.index = 0;
                continue;
            }
            // 0 would not block, so a path without index is asked as if it had one.
            self.query.index = meta.index.max(1);
            if self.query.index != before {
                return Ok((value, meta));
            }
            if start.elapsed() < BLOCKING_PAUSE {
                tokio::time::sleep(BLOCKING_PAUSE).await;
            }
        }
    }
}
