//! What can go wrong with a call to another service, in terms of what the caller may do next.
//!
//! The question that decides a retry is not "what broke" but "may it have happened": see
//! [`Outcome`]. A caller with an idempotent request retries all but [`Outcome::Refused`]; a caller
//! without one retries [`Outcome::NotSent`] only.

use std::net::SocketAddr;
use std::time::Duration;

pub use api::ErrorBody;
use http::StatusCode;

/// Longest piece of a body that is not JSON to be kept as an error's message.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What is known about a request that got no good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not reach the peer: nothing happened.
    NotSent,
    /// It may or may not have been carried out.
    Unknown,
    /// The peer answered and says no.
    Refused,
}

/// A call to another service failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or the peer at the address is not who it should be.
    #[error("cannot connect to {addr}")]
    Connect {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer from {addr} within {} ms", within.as_millis())]
    Timeout {
        addr: SocketAddr,
        within: Duration,
        /// Whether the request had been handed to a connection.
        sent: bool,
    },
    #[error("connection to {addr} broke")]
    Broken {
        addr: SocketAddr,
        sent: bool,
        #[source]
        source: hyper::Error,
    },
    #[error("{addr} answered {status}: {}", body.message)]
    Status { addr: SocketAddr, status: StatusCode, body: ErrorBody },
    #[error("answer of {addr} is longer than {limit_bytes} bytes")]
    TooLong { addr: SocketAddr, limit_bytes: usize },
    #[error("answer of {addr} is not what was expected")]
    Decode {
        addr: SocketAddr,
        #[source]
        source: serde_json::Error,
    },
    /// A stream ended in the middle of a line.
    #[error("stream from {addr} ended in the middle of a line")]
    Truncated { addr: SocketAddr },
    #[error("request cannot be built: {0}")]
    Request(String),
}

impl CallError {
    /// Whose certificate was refused, when that is why the call failed: one sentence.
    pub fn mistrust(&self) -> Option<&'static str> {
        use rustls::AlertDescription as Alert;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match tls.or_else(|| error.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    return Some("the other side's certificate is of another cluster than ours, or has expired");
                }
                Some(rustls::Error::AlertReceived(Alert::CertificateExpired)) => {
                    return Some("our certificate has expired");
                }
                Some(rustls::Error::AlertReceived(
                    Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError | Alert::CertificateUnknown,
                )) => return Some("our certificate is of another cluster than the other side's"),
                _ => cause = error.source(),
            }
        }
        None
    }

    /// What is known about the request's effect.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Connect { .. } | Self::Request(_) => Outcome::NotSent,
            Self::Timeout { sent, .. } | Self::Broken { sent, .. } => {
                if *sent {
                    Outcome::Unknown
                } else {
                    Outcome::NotSent
                }
            }
            Self::Status { .. } => Outcome::Refused,
            // It was carried out, only the answer is lost on us.
            Self::TooLong { .. } | Self::Decode { .. } | Self::Truncated { .. } => Outcome::Unknown,
        }
    }

    /// HTTP status, if the peer answered with one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Error code of the answer's body; empty if there is none.
    pub fn code(&self) -> &str {
        match self {
            Self::Status { body, .. } => &body.code,
            _ => "",
        }
    }

    /// How long the peer asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { body, .. } => body.retry_after_ms.map(Duration::from_millis),
            _ => None,
        }
    }

    /// Builds the error for an answer with a status that is no success.
    pub(crate) fn from_answer(addr: SocketAddr, status: StatusCode, headers: &http::HeaderMap, bytes: &[u8]) -> Self {
        let mut body: ErrorBody = serde_json::from_slice(bytes)
            .unwrap_or_else(|_| ErrorBody { message: text(bytes), ..ErrorBody::default() });
        if body.retry_after_ms.is_none() {
            body.retry_after_ms = headers
                .get(http::header::RETRY_AFTER)
                .and_then(|v| v.to_str().ok()?.parse::<u64>().ok())
                .map(|seconds| seconds.saturating_mul(1000));
        }
        Self::Status { addr, status, body }
    }
}

/// A body as message text: lossy and cut to a sane length.
fn text(bytes: &[u8]) -> String {
    let cut = bytes.get(..MESSAGE_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(cut).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn an_error_body_survives_the_trip_and_plain_text_becomes_the_message() {
        let none = http::HeaderMap::new();
        let e = CallError::from_answer(
            addr(),
            StatusCode::CONFLICT,
            &none,
            br#"{"code":"stale_term","message":"term 3 is over","retry_after_ms":250}"#,
        );
        assert_eq!(e.code(), "stale_term");
        assert_eq!(e.retry_after(), Some(Duration::from_millis(250)));
        assert_eq!(e.outcome(), Outcome::Refused);

        let mut headers = http::HeaderMap::new();
        headers.insert("retry-after", http::HeaderValue::from_static("2"));
        let e = CallError::from_answer(addr(), StatusCode::SERVICE_UNAVAILABLE, &headers, b"no leader\n");
        assert_eq!(e.to_string(), "127.0.0.1:1 answered 503 Service Unavailable: no leader");
        assert_eq!(e.retry_after(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn only_a_request_that_was_sent_has_an_unknown_outcome() {
        let timeout = |sent| CallError::Timeout { addr: addr(), within: Duration::from_secs(1), sent };
        assert_eq!(timeout(true).outcome(), Outcome::Unknown);
        assert_eq!(timeout(false).outcome(), Outcome::NotSent);
    }
}
