//! A call to a gateway by somebody who has no certificate of the cluster yet. With a token it trusts nobody: what is
//! said must prove itself, and TLS only keeps listeners out. With a certificate of the operator's both ends show one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::ErrorBody;
use api::state::{INTRODUCE, Introduce, Introduced};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::judge::{Anybody, Verifier};
use crate::voucher::Voucher;

const WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum IntroduceError {
    #[error("{addr} cannot be reached")]
    Unreachable { addr: SocketAddr, source: io::Error },
    #[error("{0}")]
    Refused(String),
    /// One of the two does not believe the other's certificate of the operator's.
    #[error("{addr} and this machine do not believe each other's certificates: {source}")]
    Unbelieved { addr: SocketAddr, source: rustls::Error },
    #[error("the answer of {0} cannot be read")]
    Unreadable(SocketAddr),
}

/// Asks a gateway to take this node in.
///
/// # Errors
/// See [`IntroduceError`]; only a refusal and disbelief are final.
pub async fn introduce(
    addr: SocketAddr,
    ask: &Introduce,
    voucher: Option<&Voucher>,
) -> Result<Introduced, IntroduceError> {
    let unreachable = |source| IntroduceError::Unreachable { addr, source };
    match tokio::time::timeout(WITHIN, call(addr, ask, voucher)).await {
        Ok(Ok((status, body))) => answer(addr, status, &body),
        Ok(Err(error)) if voucher.is_some() && disbelief(&error).is_some() => {
            let source = disbelief(&error).cloned().unwrap_or(rustls::Error::General(String::new()));
            Err(IntroduceError::Unbelieved { addr, source })
        }
        Ok(Err(source)) => Err(unreachable(source)),
        Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
    }
}

fn answer(addr: SocketAddr, status: StatusCode, body: &[u8]) -> Result<Introduced, IntroduceError> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|_| IntroduceError::Unreadable(addr));
    }
    let error: ErrorBody = serde_json::from_slice(body).map_err(|_| IntroduceError::Unreadable(addr))?;
    if status.is_client_error() {
        return Err(IntroduceError::Refused(error.message));
    }
    Err(IntroduceError::Unreachable { addr, source: io::Error::other(error.message) })
}

/// What of an error is about certificates.
fn disbelief<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    use rustls::Error as E;
    if let Some(error @ (E::InvalidCertificate(_) | E::AlertReceived(_))) = error.downcast_ref::<E>() {
        return Some(error);
    }
    // An I/O error gives out what is behind the error it holds, not that error.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let held = held.map(|held| held as &(dyn std::error::Error + 'static));
    held.or_else(|| error.source()).and_then(disbelief)
}

fn anybody() -> io::Result<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(Anybody)))
        .with_no_client_auth();
    config.enable_sni = false;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn call(addr: SocketAddr, ask: &Introduce, voucher: Option<&Voucher>) -> io::Result<(StatusCode, Bytes)> {
    let (config, name) = match voucher {
        Some(voucher) => (Arc::clone(&voucher.config), voucher.name.clone()),
        None => (Arc::new(anybody()?), ServerName::from(addr.ip())),
    };
    let tcp = TcpStream::connect(addr).await?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
    let driving = tokio::spawn(connection);
    let body = serde_json::to_vec(ask).map_err(io::Error::other)?;
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(INTRODUCE)
        .header(header::HOST, addr.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?;
    driving.abort();
    Ok((status, body.to_bytes()))
}
