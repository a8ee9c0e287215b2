//! What an operator may say about the public listener: limits of a caller, headers of answers.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use model::Nanos;
use model::time::parse_go_duration;

use super::Limits;

/// Where there is no limit there is this one.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Bounds {
    /// Longest time for a TLS handshake with the public API, or for a plain connection's first byte; 0 = an hour.
    #[arg(long, value_parser = span, value_name = "SPAN")]
    pub http_handshake_timeout: Option<Nanos>,
    /// Most connections of one address to the public API; 0 = no limit.
    #[arg(long, value_name = "N")]
    pub http_connections_per_client: Option<usize>,
    /// Header of every answer of the public API, unless the answer has its own. May be repeated.
    #[arg(long = "http-response-header", value_name = "NAME=VALUE", value_parser = header)]
    pub http_response_headers: Vec<(HeaderName, HeaderValue)>,
}

impl Bounds {
    /// The limits with what was said.
    pub fn limit(&self, usual: Limits) -> Limits {
        limited(usual, self.http_handshake_timeout, self.http_connections_per_client)
    }

    /// The router with the headers on its answers.
    pub fn adorn(&self, router: Router) -> Router {
        if self.http_response_headers.is_empty() {
            return router;
        }
        let headers = self.http_response_headers.clone();
        router.layer(from_fn(move |request: axum::extract::Request, next: Next| {
            let headers = headers.clone();
            async move {
                let mut answer = next.run(request).await;
                for (name, value) in headers {
                    answer.headers_mut().entry(name).or_insert(value);
                }
                answer
            }
        }))
    }
}

/// Limits with a handshake's time and an address's connections, each where something was said.
pub fn limited(usual: Limits, handshake: Option<Nanos>, per_client: Option<usize>) -> Limits {
    let handshake = handshake.map_or(usual.handshake, |span| if span.0 <= 0 { HANDSHAKE_MAX } else { span.to_std() });
    let connections_per_ip_max = match per_client {
        None => usual.connections_per_ip_max,
        Some(0) => None,
        Some(most) => Some(most),
    };
    Limits { handshake, connections_per_ip_max, ..usual }
}

fn span(text: &str) -> Result<Nanos, String> {
    parse_go_duration(text).ok_or_else(|| format!("`{text}` is no duration such as 30s or 1h30m"))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    let name = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
    Ok((name, value.parse().map_err(|_| format!("`{value}` is no value of a header"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_and_nought_is_no_limit() {
        let usual = Limits::public(1);
        let same = Bounds::default().limit(usual.clone());
        assert_eq!((same.handshake, same.connections_per_ip_max), (usual.handshake, usual.connections_per_ip_max));
        let bounds = |span: i64, most: usize| Bounds {
            http_handshake_timeout: Some(Nanos::from_secs(span)),
            http_connections_per_client: Some(most),
            ..Bounds::default()
        };
        let none = bounds(0, 0).limit(usual.clone());
        assert_eq!((none.handshake, none.connections_per_ip_max), (HANDSHAKE_MAX, None));
        let some = bounds(2, 7).limit(usual);
        assert_eq!((some.handshake, some.connections_per_ip_max), (Duration::from_secs(2), Some(7)));
        assert!(header("no header").is_err() && header("a b=c").is_err() && header("a=b").is_ok());
    }
}
