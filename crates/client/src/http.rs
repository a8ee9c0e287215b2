//! How does one process of the cluster call another?
//!
//! ```text
//!   post_json get_json post_bytes call ──► idle HTTP/1.1 connections, one call each at a time
//!   poll_json open_shared              ──► one shared HTTP/2 connection per target
//!   open send_stream                   ──► an HTTP/2 connection of its own
//! ```
//!
//! HTTP/1.1 keep-alive is cheapest for a call that is answered at once; long polls share a
//! connection, so that a thousand of them are not a thousand sockets; a stream gets its own, so
//! that one slow reader never holds up another through a shared window. Who has one stream and few calls, as an agent
//! has, does it all over one connection: its peer has thousands of them. What HTTP/2 says less well is why a peer does not
//! take a certificate: the first call to a peer is better made over HTTP/1.1.
//!
//! Invariants
//! * Every connection is mutual TLS, and the peer's certificate carries the expected role.
//! * Every call has a deadline that covers connecting, sending and reading the whole answer; every
//!   stream has a longest silence. Answers and lines have a longest length.
//! * A request is sent twice only if it surely did not reach the peer, or if it is a GET that met
//!   a kept-alive connection the peer had just closed. All other retries are the caller's, who
//!   learns from [`CallError::outcome`] what is known.
//! * Connections made with an older generation of the [`Identity`] are not used for new calls, nor is a shared one on
//!   which a call ran out of time or a stream was silent for too long: what is wrong with it may be wrong with it only.
//! * A shared connection that nobody has used for a while is given up when another one is made: who goes from peer to peer
//!   leaves none behind at each.
//!
//! Driven by whoever calls. There is no background task but one per open connection, which ends
//! with it.

mod connection;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::tls::{Expect, Identity, Role};
use connection::{H1, H2, OutBody, Trust};
pub(crate) use stream::LineBuffer;
pub use stream::{Lines, Streaming};

/// Longest error body that is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Where to call, and who must be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub addr: SocketAddr,
    pub expect: Expect,
}

impl Target {
    pub fn new(addr: SocketAddr, role: Role) -> Self {
        Self { addr, expect: role.into() }
    }

    /// The peer must have this very name, not only the role.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.expect.name = Some(name.into());
        self
    }

    /// The peer's certificate must be of this admission; empty: of any.
    pub fn admitted(mut self, mark: &str) -> Self {
        self.expect.admission = Some(mark).filter(|mark| !mark.is_empty()).map(Into::into);
        self
    }

    /// The peer is of another region.
    pub fn in_region(mut self, region: impl Into<Arc<str>>) -> Self {
        self.expect.region = Some(region.into());
        self
    }
}

impl From<(SocketAddr, Role)> for Target {
    fn from((addr, role): (SocketAddr, Role)) -> Self {
        Self::new(addr, role)
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Self {
        target.clone()
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query, beginning with `/`.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Time for all of it, from now.
    pub within: Duration,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>, within: Duration) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new(), within }
    }

    pub fn get(path: impl Into<String>, within: Duration) -> Self {
        Self::new(Method::GET, path, within)
    }

    pub fn post(path: impl Into<String>, within: Duration) -> Self {
        Self::new(Method::POST, path, within)
    }

    pub fn bytes(mut self, body: Bytes) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self.body = body;
        self
    }

    /// # Errors
    /// `body` cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Result<Self, CallError> {
        let body = model::sparse::to_vec(body).map_err(|e| CallError::Request(e.to_string()))?;
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = body.into();
        Ok(self)
    }

    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn request<B>(&self, uri: String, body: B) -> Result<http::Request<B>, CallError> {
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.parse().map_err(|_| CallError::Request(format!("bad path {}", self.path)))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    fn request_h1(&self, target: &Target) -> Result<http::Request<Full<Bytes>>, CallError> {
        let mut request = self.request(self.path.clone(), Full::new(self.body.clone()))?;
        let host = HeaderValue::from_str(&target.addr.to_string()).map_err(|e| CallError::Request(e.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }

    fn request_h2(&self, target: &Target, body: OutBody) -> Result<http::Request<OutBody>, CallError> {
        self.request(format!("https://{}{}", target.addr, self.path), body)
    }

    fn out_body(&self) -> OutBody {
        Full::new(self.body.clone()).map_err(|never| match never {}).boxed_unsync()
    }
}

/// A good answer (status 2xx).
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Limits of a client; the defaults suit calls inside one cluster.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Longest time for TCP and TLS handshake together.
    pub connect: Duration,
    /// An idle connection older than this is not used again. Less than the server's limit.
    pub idle: Duration,
    pub idle_per_target_max: usize,
    pub answer_bytes_max: usize,
    pub h2_stream_window_bytes: u32,
    pub h2_connection_window_bytes: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(45),
            idle_per_target_max: 64,
            answer_bytes_max: 64 << 20,
            h2_stream_window_bytes: 4 << 20,
            h2_connection_window_bytes: 16 << 20,
        }
    }
}

/// Pooled mutual-TLS client. Clones share the pool.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    identity: Identity,
    limits: HttpLimits,
    idle: Mutex<HashMap<Target, Vec<Idle>>>,
    shared: Mutex<HashMap<Target, SharedSlot>>,
}

/// The shared connection of a target; the lock is held while connecting, so that a burst of polls
/// opens one connection.
type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

#[derive(Default)]
struct Slot {
    connection: Option<H2>,
    /// When a call last went over it.
    used: Option<Instant>,
    /// When making one last failed, and none was made since.
    failed: Option<Instant>,
}

impl Slot {
    /// Whether there is a connection that carries something or did not long ago.
    fn is_wanted(&self, limit: Duration) -> bool {
        let Some(connection) = self.connection.as_ref().filter(|connection| !connection.sender.is_closed()) else {
            return false;
        };
        Arc::strong_count(&connection.trust) > 1 || self.used.is_some_and(|used| used.elapsed() < limit)
    }
}

struct Idle {
    connection: H1,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Http {
    pub fn new(identity: Identity) -> Self {
        Self::with_limits(identity, HttpLimits::default())
    }

    pub fn with_limits(identity: Identity, limits: HttpLimits) -> Self {
        Self(Arc::new(Inner { identity, limits, idle: Mutex::default(), shared: Mutex::default() }))
    }

    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Sends JSON, reads JSON.
    pub async fn post_json<Req, Resp>(
        &self,
        to: impl Into<Target>,
        path: &str,
        body: &Req,
        within: Duration,
    ) -> Result<Resp, CallError>
    where
        Req: Serialize + ?Sized,
        Resp: DeserializeOwned,
    {
        let to = to.into();
        let reply = self.call(&to, Call::post(path, within).json(body)?).await?;
        decode(to.addr, &reply.body)
    }

    /// Reads JSON.
    pub async fn get_json<Resp: DeserializeOwned>(
        &self,
        to: impl Into<Target>,
        path: &str,
        within: Duration,
    ) -> Result<Resp, CallError> {
        let to = to.into();
        let reply = self.call(&to, Call::get(path, within)).await?;
        decode(to.addr, &reply.body)
    }

    /// Sends bytes, reads bytes.
    pub async fn post_bytes(
        &self,
        to: impl Into<Target>,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        let to = to.into();
        let reply = self.call(&to, Call::post(path, within).bytes(body)).await?;
        Ok(reply.body)
    }

    /// Sends JSON, reads JSON; for a call that the peer answers only when it has something to say, or of somebody who
    /// has few to make. Many of them share one connection. `within` must be longer than the peer's wait.
    pub async fn poll_json<Req, Resp>(
        &self,
        to: impl Into<Target>,
        path: &str,
        body: &Req,
        within: Duration,
    ) -> Result<Resp, CallError>
    where
        Req: Serialize + ?Sized,
        Resp: DeserializeOwned,
    {
        let to = to.into();
        let reply = self.poll(&to, Call::post(path, within).json(body)?).await?;
        decode(to.addr, &reply.body)
    }

    /// One call over a kept-alive HTTP/1.1 connection.
    ///
    /// # Errors
    /// Any [`CallError`]; an answer outside 2xx is [`CallError::Status`].
    pub async fn call(&self, to: &Target, call: Call) -> Result<Reply, CallError> {
        let mut sent = false;
        let work = self.exchange_h1(to, &call, &mut sent);
        match tokio::time::timeout(call.within, work).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(to, &call, sent)),
        }
    }

    /// One call over the target's shared HTTP/2 connection. Errors as [`Http::call`].
    pub async fn poll(&self, to: &Target, call: Call) -> Result<Reply, CallError> {
        let limit = self.0.limits.answer_bytes_max;
        let (reply, _) = self.over_shared(to, &call, |response| collect(to.addr, response, limit)).await?;
        Ok(reply)
    }

    /// Opens a stream on the target's shared connection. Times as [`Http::open`].
    pub async fn open_shared(
        &self,
        to: impl Into<Target>,
        call: Call,
        silence: Duration,
    ) -> Result<Streaming, CallError> {
        let to = to.into();
        let (response, connection) = self.over_shared(&to, &call, |response| good(to.addr, response)).await?;
        Ok(Streaming::new(to.addr, response, silence).on(connection))
    }

    /// The answer, and the connection it came over.
    async fn over_shared<T, F>(
        &self,
        to: &Target,
        call: &Call,
        answer: impl FnOnce(http::Response<Incoming>) -> F,
    ) -> Result<(T, Arc<Trust>), CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut used = None;
        let work = async { answer(self.exchange_h2(to, call, &mut used).await?).await };
        match tokio::time::timeout(call.within, work).await {
            Ok(result) => result.map(|answer| (answer, used.unwrap_or_default())),
            Err(_) => {
                used.iter().for_each(|connection| connection.lose());
                Err(timed_out(to, call, used.is_some()))
            }
        }
    }

    /// Passes a request on as it is, on a connection of its own, and its answer back, upgrades included.
    ///
    /// # Errors
    /// The peer cannot be reached, or ends the connection without an answer.
    pub async fn pass_on<B>(
        &self,
        to: &Target,
        request: http::Request<B>,
    ) -> Result<http::Response<Incoming>, CallError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        connection::pass_on(&self.0.identity, &self.0.limits, to, request).await
    }

    /// Opens a stream on a connection of its own. `call.within` covers the time until the answer's
    /// head; after that, `silence` is the longest time between two pieces.
    pub async fn open(&self, to: impl Into<Target>, call: Call, silence: Duration) -> Result<Streaming, CallError> {
        let to = to.into();
        let body = call.out_body();
        let mut sent = false;
        let work = self.begin(&to, &call, body, &mut sent);
        let response = match tokio::time::timeout(call.within, work).await {
            Ok(result) => result?,
            Err(_) => return Err(timed_out(&to, &call, sent)),
        };
        Ok(Streaming::new(to.addr, response, silence))
    }

    /// Opens a stream in both directions on a connection of its own: `body` goes on while the answer is read, and
    /// `call.body` is ignored. Times as [`Http::open`].
    pub async fn open_duplex<S>(
        &self,
        to: impl Into<Target>,
        call: Call,
        body: S,
        silence: Duration,
    ) -> Result<Streaming, CallError>
    where
        S: futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        use futures::TryStreamExt;
        let to = to.into();
        let body = StreamBody::new(body.map_ok(Frame::data)).boxed_unsync();
        let mut sent = false;
        let work = self.begin(&to, &call, body, &mut sent);
        let response = match tokio::time::timeout(call.within, work).await {
            Ok(result) => result?,
            Err(_) => return Err(timed_out(&to, &call, sent)),
        };
        Ok(Streaming::new(to.addr, response, silence))
    }

    /// Opens a GET stream: [`Http::open`] with the usual arguments.
    pub async fn open_stream(
        &self,
        to: impl Into<Target>,
        path: &str,
        within: Duration,
        silence: Duration,
    ) -> Result<Streaming, CallError> {
        self.open(to, Call::get(path, within), silence).await
    }

    /// Uploads a stream on a connection of its own; `call.within` covers all of it, `call.body` is
    /// ignored.
    pub async fn send_stream<S>(&self, to: impl Into<Target>, call: Call, body: S) -> Result<Reply, CallError>
    where
        S: futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        use futures::TryStreamExt;
        let to = to.into();
        let body = StreamBody::new(body.map_ok(Frame::data)).boxed_unsync();
        let mut sent = false;
        let limit = self.0.limits.answer_bytes_max;
        let work = async {
            let response = self.begin(&to, &call, body, &mut sent).await?;
            collect(to.addr, response, limit).await
        };
        match tokio::time::timeout(call.within, work).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(&to, &call, sent)),
        }
    }

    async fn exchange_h1(&self, to: &Target, call: &Call, sent: &mut bool) -> Result<Reply, CallError> {
        let mut request = call.request_h1(to)?;
        let mut again = call.method == Method::GET;
        loop {
            let (mut connection, reused) = match self.checkout(to).await {
                Some(connection) => (connection, true),
                None => (self.connect_h1(to).await?, false),
            };
            *sent = true;
            let mut failure = match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let limit = self.0.limits.answer_bytes_max;
                    let reply = collect(to.addr, response, limit).await;
                    // After an error answer, too, if its body was read to the end.
                    if matches!(reply, Ok(_) | Err(CallError::Status { .. })) {
                        self.checkin(to, connection);
                    }
                    return reply;
                }
                Err(failure) => failure,
            };
            match failure.take_message() {
                Some(unsent) if reused => request = unsent,
                None if reused && again => {
                    again = false;
                    request = call.request_h1(to)?;
                }
                message => {
                    return Err(CallError::Broken {
                        addr: to.addr,
                        sent: message.is_none(),
                        source: failure.into_error(),
                    });
                }
            }
            *sent = false;
        }
    }

    /// Sends a request over the shared connection, which is in `used` as long as it may have been sent.
    async fn exchange_h2(
        &self,
        to: &Target,
        call: &Call,
        used: &mut Option<Arc<Trust>>,
    ) -> Result<http::Response<Incoming>, CallError> {
        let mut reused;
        let mut request = call.request_h2(to, call.out_body())?;
        loop {
            let mut connection;
            (connection, reused) = self.shared(to).await?;
            *used = Some(Arc::clone(&connection.trust));
            let mut failure = match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            *used = None;
            match failure.take_message() {
                Some(unsent) if reused => request = unsent,
                message => {
                    return Err(CallError::Broken {
                        addr: to.addr,
                        sent: message.is_none(),
                        source: failure.into_error(),
                    });
                }
            }
        }
    }

    /// Sends a request on a new HTTP/2 connection and waits for the head of a good answer.
    async fn begin(
        &self,
        to: &Target,
        call: &Call,
        body: OutBody,
        sent: &mut bool,
    ) -> Result<http::Response<Incoming>, CallError> {
        let request = call.request_h2(to, body)?;
        let mut connection = self.connect_h2(to).await?;
        *sent = true;
        let response = connection.sender.send_request(request).await.map_err(|source| CallError::Broken {
            addr: to.addr,
            sent: true,
            source,
        })?;
        good(to.addr, response).await
    }

    /// The youngest usable idle connection.
    async fn checkout(&self, to: &Target) -> Option<H1> {
        let generation = self.0.identity.generation();
        loop {
            let idle = lock(&self.0.idle).get_mut(to)?.pop()?;
            let usable = idle.connection.generation == generation && idle.since.elapsed() < self.0.limits.idle;
            if !usable {
                continue;
            }
            let mut connection = idle.connection;
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn checkin(&self, to: &Target, connection: H1) {
        if connection.sender.is_closed() {
            return;
        }
        let mut all = lock(&self.0.idle);
        if !all.contains_key(to) {
            all.insert(to.clone(), Vec::new());
        }
        if let Some(idle) = all.get_mut(to)
            && idle.len() < self.0.limits.idle_per_target_max
        {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    async fn connect_h1(&self, to: &Target) -> Result<H1, CallError> {
        self.sweep();
        connection::h1(&self.0.identity, &self.0.limits, to).await
    }

    async fn connect_h2(&self, to: &Target) -> Result<H2, CallError> {
        connection::h2(&self.0.identity, &self.0.limits, to).await
    }

    /// The target's shared connection, and whether it was there before.
    async fn shared(&self, to: &Target) -> Result<(H2, bool), CallError> {
        let slot = lock(&self.0.shared).entry(to.clone()).or_default().clone();
        let asked = Instant::now();
        let mut slot = slot.lock().await;
        if let Some(connection) = &slot.connection
            && !connection.sender.is_closed()
            && !connection.trust.is_lost()
            && connection.generation == self.0.identity.generation()
        {
            let connection = connection.clone();
            slot.used = Some(Instant::now());
            return Ok((connection, true));
        }
        // Who waited while another one tried in vain does not try again behind all others.
        if slot.failed.is_some_and(|failed| failed > asked) {
            let source = io::Error::other("another call has just failed to connect there");
            return Err(CallError::Connect { addr: to.addr, source });
        }
        self.sweep();
        let connected = self.connect_h2(to).await;
        slot.failed = connected.is_err().then(Instant::now);
        let connection = connected?;
        (slot.connection, slot.used) = (Some(connection.clone()), Some(Instant::now()));
        Ok((connection, false))
    }

    /// Forgets dead connections, those that nobody uses any more, and the addresses that have no other. Runs when a
    /// connection is made, which is rare and is also the only way for the maps to grow.
    fn sweep(&self) {
        let limit = self.0.limits.idle;
        lock(&self.0.idle).retain(|_, idle| {
            idle.retain(|i| !i.connection.sender.is_closed() && i.since.elapsed() < limit);
            !idle.is_empty()
        });
        lock(&self.0.shared).retain(|_, slot| slot.try_lock().map_or(true, |slot| slot.is_wanted(limit)));
    }
}

fn timed_out(to: &Target, call: &Call, sent: bool) -> CallError {
    CallError::Timeout { addr: to.addr, within: call.within, sent }
}

pub(crate) fn decode<T: DeserializeOwned>(addr: SocketAddr, body: &[u8]) -> Result<T, CallError> {
    // A success without a body reads as `null`, so that `()` and `Option` work.
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|source| CallError::Decode { addr, source })
}

/// An answer that goes on, as it is; outside 2xx it is read to its end and becomes an error.
async fn good(addr: SocketAddr, response: http::Response<Incoming>) -> Result<http::Response<Incoming>, CallError> {
    if response.status().is_success() {
        return Ok(response);
    }
    match collect(addr, response, ERROR_BYTES_MAX).await {
        Err(e) => Err(e),
        Ok(_) => Err(CallError::Request("error answer without status".to_owned())),
    }
}

/// Reads an answer to its end; outside 2xx it becomes an error.
async fn collect(addr: SocketAddr, response: http::Response<Incoming>, limit: usize) -> Result<Reply, CallError> {
    let (head, mut body) = response.into_parts();
    let good = head.status.is_success();
    let limit_bytes = if good { limit } else { ERROR_BYTES_MAX.min(limit) };
    if body.size_hint().lower() > limit_bytes as u64 {
        return Err(CallError::TooLong { addr, limit_bytes });
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| CallError::Broken { addr, sent: true, source })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + more.len() + data.len() > limit_bytes {
            return Err(CallError::TooLong { addr, limit_bytes });
        }
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
    }
    let body = if more.is_empty() {
        first
    } else {
        let mut whole = BytesMut::with_capacity(first.len() + more.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&more);
        whole.freeze()
    };
    if !good {
        return Err(CallError::from_answer(addr, head.status, &head.headers, &body));
    }
    Ok(Reply { status: head.status, headers: head.headers, body })
}
