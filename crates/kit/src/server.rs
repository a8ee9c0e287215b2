//! How do requests get in?
//!
//! ```text
//!   accept ──► gate (connections in all, per address) ──► TLS handshake ──► which HTTP? ──► serve
//!      │            │ full: 429 / 503 and close              │ deadline        │ deadline      │
//!      └── shutdown: stop accepting, finish what runs, after `drain` cut the rest ◄────────────┘
//! ```
//!
//! Our own loop over hyper, because limits, windows and deadlines must be ours: what a stranger
//! can hold without having said anything is one connection for a few seconds.
//!
//! Invariants
//! * Each step before a request has a deadline; request heads have one too, and it covers an idle
//!   kept-alive connection as well (so a client's idle limit must be shorter).
//! * A mutual listener puts the caller's [`Peer`] into each request; without one nothing is served.
//! * Bodies read by extractors are limited by [`Limits::body_bytes`]; a route that needs another
//!   limit layers its own `DefaultBodyLimit`, a route that streams counts for itself.
//! * A panicking handler answers 500; the connection and the process go on.
//!
//! Driven by [`serve`], one task per listener and one per connection. An accept that fails is
//! logged and tried again.

pub mod bounds;
mod gate;
mod linger;
pub mod live;
mod refuse;

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::Code;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::Request;
use axum::response::Response;
use client::tls::{Identity, PeerIdentity};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use tower_http::catch_panic::CatchPanicLayer;

use crate::guard::{Peer, refusal};
use crate::https::Https;
use crate::process::Shutdown;
use crate::vouched::{Vouched, Vouching};
use gate::{Denied, Gate, Pass};
use linger::Lingering;
use live::Live;

const BACKLOG: u32 = 1024;
const H1_BUFFER_BYTES_MAX: usize = 64 * 1024;
const H2_HEADERS_BYTES_MAX: u32 = 32 * 1024;
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A refused certificate is worth a line this often.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// After an accept failed (no file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Address of the other end of the connection; in each request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// What a listener asks of a connection.
#[derive(Clone)]
pub enum Tls {
    /// Nothing: for the public API where it is not encrypted.
    Plain,
    /// Ordinary HTTPS, for the public API.
    Public(Https),
    /// A certificate of the cluster, for everything internal.
    Mutual(Identity),
    /// The same, but a caller without a certificate gets as far as the routes, without a [`Peer`]: for nodes
    /// that are to be introduced. See [`only_known_but`]. Who names a server is asked for an operator's
    /// certificate instead, where there is such a thing.
    Doorstep(Identity, Option<Vouching>),
}

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connections_max: usize,
    /// `None`: no limit per address.
    pub connections_per_ip_max: Option<usize>,
    /// For the TLS handshake, and for the first byte of a plain connection.
    pub handshake: Duration,
    /// For a request's head, and for an idle kept-alive connection.
    pub head: Duration,
    /// Longest body an extractor reads.
    pub body_bytes: usize,
    pub h2_streams_max: u32,
    pub h2_stream_window_bytes: u32,
    pub h2_connection_window_bytes: u32,
    /// Most bytes of an answer kept for one HTTP/2 stream whose reader is slow.
    pub h2_send_buffer_bytes: usize,
    /// Longest time for what runs when shutdown is requested.
    pub drain: Duration,
    /// Somebody may change some of these while the listener listens.
    pub live: Option<Live>,
}

impl Limits {
    /// For listeners that only the cluster's own processes can use.
    pub fn internal() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_ip_max: None,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(60),
            body_bytes: 64 << 20,
            h2_streams_max: 20_000,
            h2_stream_window_bytes: 1 << 20,
            h2_connection_window_bytes: 4 << 20,
            h2_send_buffer_bytes: 256 << 10,
            drain: Duration::from_secs(5),
            live: None,
        }
    }

    /// For the listener that anybody can reach; how long a body may be depends on what it serves.
    pub fn public(body_bytes: usize) -> Self {
        Self {
            connections_max: 10_000,
            connections_per_ip_max: Some(100),
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(30),
            body_bytes,
            h2_streams_max: 1_000,
            h2_stream_window_bytes: 64 << 10,
            h2_connection_window_bytes: 1 << 20,
            h2_send_buffer_bytes: 64 << 10,
            drain: Duration::from_secs(5),
            live: None,
        }
    }
}

/// A bound address, not yet served.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds; port 0 picks a free one.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self(socket.listen(BACKLOG)?))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves `router` until shutdown is requested and the connections have drained.
pub async fn serve(listener: Listener, tls: Tls, router: Router, limits: Limits, shutdown: Shutdown) {
    let addr = listener.local_addr().ok();
    let shared = Arc::new(Shared::new(tls, router, limits, shutdown.clone()));
    let tracker = TaskTracker::new();
    loop {
        let Some(accepted) = shutdown.or(listener.0.accept()).await else {
            break;
        };
        match accepted {
            Ok((tcp, peer)) => shared.clone().accepted(tcp, peer, &tracker),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(shared.limits.drain, tracker.wait()).await.is_err() {
        tracing::info!(?addr, connections = tracker.len(), "cutting connections that did not drain");
        shared.cut.cancel();
        tracker.wait().await;
    }
}

/// What the connections of a listener share.
struct Shared {
    tls: Tls,
    router: Router,
    limits: Limits,
    live: Live,
    shutdown: Shutdown,
    /// Drain is over.
    cut: CancellationToken,
    gate: Arc<Gate>,
    /// When a refused certificate was last told of.
    told: Mutex<Option<Instant>>,
    h1: auto::Builder<TokioExecutor>,
    h2: auto::Builder<TokioExecutor>,
}

impl Shared {
    fn new(tls: Tls, router: Router, limits: Limits, shutdown: Shutdown) -> Self {
        let router = router
            .layer(DefaultBodyLimit::max(limits.body_bytes))
            .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| panicked()));
        let mut h1 = auto::Builder::new(TokioExecutor::new()).http1_only();
        h1.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(H1_BUFFER_BYTES_MAX);
        let mut h2 = auto::Builder::new(TokioExecutor::new()).http2_only();
        h2.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams_max)
            .initial_stream_window_size(limits.h2_stream_window_bytes)
            .initial_connection_window_size(limits.h2_connection_window_bytes)
            .max_send_buf_size(limits.h2_send_buffer_bytes)
            .max_header_list_size(H2_HEADERS_BYTES_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let live = limits.live.clone().unwrap_or_else(|| Live::of(&limits));
        let gate = Gate::new(limits.connections_max, live.clone());
        Self {
            tls,
            router,
            limits,
            live,
            shutdown,
            cut: CancellationToken::new(),
            gate,
            told: Mutex::new(None),
            h1,
            h2,
        }
    }

    /// Begins the task of a connection, or its refusal.
    fn accepted(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr, tracker: &TaskTracker) {
        match self.gate.enter(peer.ip()) {
            Ok(pass) => {
                tracker.spawn(async move {
                    let cut = self.cut.clone();
                    cut.run_until_cancelled(self.connection(tcp, peer, pass)).await;
                });
            }
            Err(denied) => {
                tracing::debug!(%peer, ?denied, "connection refused");
                // Only a plain connection can be told why; a TLS one is closed.
                if matches!(self.tls, Tls::Plain)
                    && let Some(slot) = self.gate.refusal_slot()
                {
                    tracker.spawn(refuse::answer(tcp, denied, slot));
                }
            }
        }
    }

    async fn connection(&self, tcp: TcpStream, peer: SocketAddr, pass: Pass) {
        let _pass = pass;
        if let Err(error) = self.handshake_and_serve(tcp, peer).await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }

    async fn handshake_and_serve(&self, tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let config = match &self.tls {
            Tls::Plain => {
                let h2 = self.before_deadline(speaks_h2(&tcp)).await?;
                return self.serve(tcp, peer, Caller::default(), h2).await;
            }
            Tls::Public(https) => {
                if !self.before_deadline(speaks_tls(&tcp)).await? {
                    return self.turn_away(tcp).await;
                }
                https.config()
            }
            Tls::Mutual(identity) => identity.server_config(),
            Tls::Doorstep(identity, None) => identity.doorstep_config(),
            Tls::Doorstep(identity, Some(vouching)) => return self.doorstep(tcp, peer, identity, vouching).await,
        };
        let stream = self.before_deadline(TlsAcceptor::from(config).accept(tcp)).await;
        let stream = stream.inspect_err(|error| self.tell_of_handshake(peer, error))?;
        let (_, session) = stream.get_ref();
        let h2 = session.alpn_protocol() == Some(b"h2");
        let caller = match (&self.tls, session.peer_certificates().and_then(<[_]>::first)) {
            (Tls::Mutual(_) | Tls::Doorstep(..), Some(cert)) => Caller::of_cluster(cert)?,
            (Tls::Mutual(_), None) => return Err(io::Error::other("no client certificate")),
            _ => Caller::default(),
        };
        self.serve(stream, peer, caller, h2).await
    }

    /// Two kinds of callers, told apart by whether they name a server.
    async fn doorstep(&self, tcp: TcpStream, peer: SocketAddr, own: &Identity, vouching: &Vouching) -> io::Result<()> {
        let handshake = async {
            let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp).await?;
            let named = hello.client_hello().server_name().is_some();
            let config = if named { vouching.https.config() } else { own.doorstep_config() };
            hello.into_stream(config).await.map(|stream| (named, stream))
        };
        let done = self.before_deadline(handshake).await;
        let (named, stream) = done.inspect_err(|error| self.tell_of_handshake(peer, error))?;
        let (_, session) = stream.get_ref();
        let h2 = session.alpn_protocol() == Some(b"h2");
        let caller = match session.peer_certificates().and_then(<[_]>::first) {
            cert if named => Caller { vouched: Some(vouching.judge(cert)), ..Caller::default() },
            Some(cert) => Caller::of_cluster(cert)?,
            None => Caller::default(),
        };
        self.serve(stream, peer, caller, h2).await
    }

    /// A certificate that is not believed is worth a line now and then: somebody is kept out, or kept out wrongly.
    fn tell_of_handshake(&self, peer: SocketAddr, error: &io::Error) {
        let cause = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        let reason = match cause {
            Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
                format!("the caller's certificate is refused: {error}")
            }
            Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert) => {
                format!("the caller refuses this process's certificate: {alert:?}")
            }
            _ => return,
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at: Instant| at.elapsed() > TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(%peer, reason, "connection refused by its certificate");
        }
    }

    /// A caller who speaks plain HTTP to an HTTPS listener is told so, in the words that callers know.
    async fn turn_away(&self, mut tcp: TcpStream) -> io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Connection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        self.before_deadline(async {
            tcp.write_all(ANSWER).await?;
            tcp.shutdown().await
        })
        .await
    }

    async fn before_deadline<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        // A connection that has asked for nothing yet has nothing to finish.
        let work = self.shutdown.or(tokio::time::timeout(self.live.handshake(), work));
        match work.await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::ErrorKind::TimedOut.into()),
            None => Err(io::Error::other("shutting down")),
        }
    }

    async fn serve<S>(&self, stream: S, peer: SocketAddr, caller: Caller, h2: bool) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            if let Some(peer) = &caller.peer {
                request.extensions_mut().insert(peer.clone());
            }
            if let Some(vouched) = &caller.vouched {
                request.extensions_mut().insert(vouched.clone());
            }
            self.router.clone().call(request.map(Lingering::new))
        });
        let builder = if h2 { &self.h2 } else { &self.h1 };
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.requested() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(io::Error::other)
    }
}

/// What a handshake showed of who calls.
#[derive(Default)]
struct Caller {
    peer: Option<Peer>,
    vouched: Option<Vouched>,
}

impl Caller {
    fn of_cluster(cert: &rustls::pki_types::CertificateDer<'_>) -> io::Result<Self> {
        let identity = PeerIdentity::from_der(cert).map_err(io::Error::other)?;
        Ok(Self { peer: Some(Peer(Arc::new(identity))), vouched: None })
    }
}

/// For a [`Tls::Doorstep`] listener: strangers reach this one path and nothing else.
pub fn only_known_but(router: Router, path: &'static str) -> Router {
    router.layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| async move {
            if request.extensions().get::<Peer>().is_none() && request.uri().path() != path {
                return refusal(Code::Unauthenticated, "a certificate of this cluster is required");
            }
            next.run(request).await
        },
    ))
}

/// Whether a plain connection begins as HTTP/2 does (`PRI * HTTP/2.0`); looks without taking.
async fn speaks_h2(tcp: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI";
    let mut seen = [0; PREFACE.len()];
    loop {
        let n = tcp.peek(&mut seen).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if n == PREFACE.len() || !PREFACE.starts_with(&seen[..n]) {
            return Ok(seen[..n] == *PREFACE);
        }
        // Part of it is here, and `peek` would say so at once again.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Alerts by which the other side says that a certificate is not good, or that one is missing.
fn is_about_certificates(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::CertificateRequired
    )
}

/// Whether a connection begins as TLS does, with a handshake record; looks without taking.
async fn speaks_tls(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first == [0x16]),
    }
}

/// The panic itself is in the log, by the process's panic hook.
fn panicked() -> Response<Body> {
    refusal(Code::Internal, "internal error")
}
