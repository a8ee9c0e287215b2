//! Making one connection: TCP, TLS with the expected role, HTTP handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{HttpLimits, Target};
use crate::error::CallError;
use crate::tls::{Alpn, Identity};

/// Body of a request on an HTTP/2 connection.
pub(super) type OutBody = UnsyncBoxBody<Bytes, io::Error>;

/// How often a silent HTTP/2 connection is asked whether it lives, and how long it may think.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const H2_FRAME_BYTES_MAX: u32 = 64 * 1024;

pub(super) struct H1 {
    pub sender: http1::SendRequest<Full<Bytes>>,
    pub generation: u64,
}

#[derive(Clone)]
pub(super) struct H2 {
    pub sender: http2::SendRequest<OutBody>,
    pub generation: u64,
    /// Held by whoever has a call or a stream on it, too.
    pub trust: Arc<Trust>,
}

/// Whether a shared connection gets new calls.
#[derive(Default)]
pub(super) struct Trust(AtomicBool);

impl Trust {
    /// It let somebody wait for too long: it gets no more. What it has goes on.
    pub fn lose(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) async fn h1(identity: &Identity, limits: &HttpLimits, to: &Target) -> Result<H1, CallError> {
    let generation = identity.generation();
    let io = within(limits.connect, to.addr, dial(identity, to, Alpn::H1)).await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|e| not_connected(to.addr, io::Error::other(e)))?;
    drive(to.addr, connection);
    Ok(H1 { sender, generation })
}

pub(super) async fn h2(identity: &Identity, limits: &HttpLimits, to: &Target) -> Result<H2, CallError> {
    let generation = identity.generation();
    let io = within(limits.connect, to.addr, dial(identity, to, Alpn::H2)).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.h2_stream_window_bytes)
        .initial_connection_window_size(limits.h2_connection_window_bytes)
        .max_frame_size(H2_FRAME_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|e| not_connected(to.addr, io::Error::other(e)))?;
    drive(to.addr, connection);
    Ok(H2 { sender, generation, trust: Arc::default() })
}

/// One request on a connection of its own, that may become another protocol's.
pub(super) async fn pass_on<B>(
    identity: &Identity,
    limits: &HttpLimits,
    to: &Target,
    request: http::Request<B>,
) -> Result<http::Response<hyper::body::Incoming>, CallError>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = within(limits.connect, to.addr, dial(identity, to, Alpn::H1)).await?;
    let fail = |e: hyper::Error| not_connected(to.addr, io::Error::other(e));
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(fail)?;
    drive(to.addr, connection.with_upgrades());
    sender.send_request(request).await.map_err(fail)
}

/// The connection's own task; ends when the connection does or when all senders are gone.
fn drive<C>(addr: SocketAddr, connection: C)
where
    C: Future<Output = hyper::Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%addr, %error, "connection ended");
        }
    });
}

async fn dial(identity: &Identity, to: &Target, alpn: Alpn) -> io::Result<TlsStream<TcpStream>> {
    let (config, name) = identity.dial(&to.expect, alpn).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(to.addr).await?;
    tcp.set_nodelay(true)?;
    let stream = TlsConnector::from(config).connect(name, tcp).await?;
    to.expect.check_admission(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
    Ok(stream)
}

async fn within<T>(
    limit: Duration,
    addr: SocketAddr,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, CallError> {
    let result = match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    result.map_err(|source| not_connected(addr, source))
}

fn not_connected(addr: SocketAddr, source: io::Error) -> CallError {
    CallError::Connect { addr, source }
}
