//! Which roles may call a route? Each internal route says so beside itself:
//!
//! ```text
//!   Router::new().route("/v1/internal/command", post(command).layer(guard::require(&[Role::Gateway, …])))
//! ```
//!
//! A caller without a certificate gets 401 (on a mutual-TLS listener it cannot get this far), one
//! with another role 403. [`Peer`] gives a handler the caller's identity.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::{Code, ErrorBody};
use axum::extract::FromRequestParts;
use axum::http::{Request, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use client::tls::{PeerIdentity, Role};
use futures::future::{Either, Ready, ready};
use tower::{Layer, Service};

/// The authenticated caller, as the listener found it.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<PeerIdentity>);

impl Deref for Peer {
    type Target = PeerIdentity;
    fn deref(&self) -> &PeerIdentity {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts.extensions.get::<Peer>().cloned().ok_or_else(no_certificate)
    }
}

/// An error answer between services.
pub fn refusal(code: Code, message: impl Into<String>) -> Response {
    refusal_body(
        code.status(),
        &ErrorBody { code: code.as_str().to_owned(), message: message.into(), retry_after_ms: None },
    )
}

/// An error answer as it stands, `Retry-After` included.
pub fn refusal_body(status: StatusCode, body: &ErrorBody) -> Response {
    let json = serde_json::to_vec(body).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], json).into_response();
    if let Some(ms) = body.retry_after_ms {
        response.headers_mut().insert(header::RETRY_AFTER, ms.div_ceil(1000).into());
    }
    response
}

fn no_certificate() -> Response {
    refusal(Code::Unauthenticated, "a certificate of this cluster is required")
}

/// A handler's way to say no: answers with the code's status and the body as JSON.
#[derive(Clone, Debug)]
pub struct Refused(pub ErrorBody);

impl Refused {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(ErrorBody::new(code, message))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refusal_body(self.0.code().status(), &self.0)
    }
}

/// Lets only callers of these roles through.
pub fn require(roles: &'static [Role]) -> Require {
    Require { roles }
}

/// Made by [`require`].
#[derive(Clone, Copy, Debug)]
pub struct Require {
    roles: &'static [Role],
}

impl Require {
    /// The refusal for this caller, if there is one.
    fn refuse(&self, peer: Option<&Peer>) -> Option<Response> {
        let Some(peer) = peer else {
            return Some(no_certificate());
        };
        if self.roles.contains(&peer.role) {
            return None;
        }
        tracing::warn!(peer = %peer.0, "caller's role may not use this route");
        let message = format!("role {} may not call this", peer.role.as_str());
        Some(refusal(Code::Forbidden, message))
    }
}

impl<S> Layer<S> for Require {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { require: *self, inner }
    }
}

/// A service behind [`Require`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    require: Require,
    inner: S,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.require.refuse(request.extensions().get::<Peer>()) {
            None => Either::Right(self.inner.call(request)),
            Some(response) => Either::Left(ready(Ok(response))),
        }
    }
}
