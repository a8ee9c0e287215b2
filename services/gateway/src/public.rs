//! The public listener's router: the routes, and what holds for all of them.
//!
//! ```text
//!   request ─► PUT becomes POST (what takes any method, the handler's), slashes in job ids are kept together
//!           ─► route: built, or 501 from the list of endpoints; other path 404; other method 405
//!           ─► cross-origin headers where the reference has them; gzip, except on streams
//! ```

use std::convert::Infallible;
use std::time::Instant;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use tower::ServiceBuilder;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};

use crate::app::App;
use crate::errors::ApiError;
use crate::{OPENAPI, any_method, not_built, routes};

/// Answers shorter than this are not worth packing.
const GZIP_BYTES_MIN: u64 = 1024;
const DOCS: &str = include_str!("docs.html");
/// Paths that pages of any origin may read.
const CROSS_ORIGIN: [&str; 6] = [
    "/v1/client/fs",
    "/v1/client/stats",
    "/v1/client/allocation",
    "/v1/client/metadata",
    "/v1/client/identity",
    "/v1/vars",
];

/// Marks an answer that goes on: it is never packed.
#[derive(Clone, Copy, Debug)]
pub struct Streamed;

/// The method as the caller wrote it.
#[derive(Clone, Debug)]
pub struct AskedMethod(pub Method);

impl<S: Sync> FromRequestParts<S> for AskedMethod {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let asked = parts.extensions.get::<Self>().cloned();
        Ok(asked.unwrap_or_else(|| Self(parts.method.clone())))
    }
}

/// Everything that anybody may ask.
pub fn router(app: App) -> Router {
    let built = routes::router();
    let missing = not_built::router(&built.served());
    let packed = CompressionLayer::new()
        .gzip(true)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(GZIP_BYTES_MIN).and(is_whole));
    let all = built
        .into_router()
        .merge(missing)
        .merge(routes::client_files::odd_paths())
        .merge(routes::gossip_keys::odd_paths())
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route("/docs", get(|| async { Html(DOCS) }))
        .route("/", get(to_docs))
        .route("/ui", get(to_docs))
        .route("/ui/", get(to_docs))
        .route("/ui/{*rest}", get(to_docs))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid method") })
        .layer(from_fn(cross_origin))
        .layer(from_fn_with_state(app.clone(), counted))
        .layer(packed)
        .with_state(app);
    Router::new().fallback_service(ServiceBuilder::new().map_request(normalized).service(all))
}

/// Until there is a web interface.
async fn to_docs() -> Redirect {
    Redirect::temporary("/docs")
}

fn is_whole(_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    extensions.get::<Streamed>().is_none()
}

fn normalized(mut request: Request) -> Request {
    let asked = request.method().clone();
    if asked == Method::PUT {
        *request.method_mut() = Method::POST;
    }
    if let Some(method) = any_method::handled_as(request.uri().path(), request.method()) {
        *request.method_mut() = method;
    }
    request.extensions_mut().insert(AskedMethod(asked));
    if let Some(uri) = job_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// What may follow a job's id in a path.
const JOB_SUFFIXES: [&str; 18] = [
    "/allocations",
    "/evaluations",
    "/deployments",
    "/deployment",
    "/summary",
    "/versions",
    "/submission",
    "/scale",
    "/services",
    "/actions",
    "/action",
    "/evaluate",
    "/plan",
    "/periodic/force",
    "/dispatch/payload",
    "/dispatch",
    "/revert",
    "/stable",
];

/// A job's id is everything between `/v1/job/` and a known ending, slashes included: they are written
/// as `%2F`, so that the id is one part of the path. `None` when nothing is to be done.
fn job_uri(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix("/v1/job/")?;
    let suffix = JOB_SUFFIXES.iter().find(|suffix| rest.ends_with(**suffix));
    let id_bytes = match suffix {
        Some(suffix) => rest.len() - suffix.len(),
        None => tag_suffix(rest).unwrap_or(rest.len()),
    };
    let (id, suffix) = rest.split_at(id_bytes);
    if !id.contains('/') {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/v1/job/{}{suffix}{query}", id.replace('/', "%2F")).parse().ok()
}

/// Where `/versions/<name>/tag` begins.
fn tag_suffix(rest: &str) -> Option<usize> {
    let (before, _) = rest.strip_suffix("/tag")?.rsplit_once('/')?;
    before.strip_suffix("/versions").map(str::len)
}

async fn counted(State(app): State<App>, request: Request, next: Next) -> Response {
    app.counts.requests.increment();
    if request.method() == Method::GET {
        app.counts.queries.increment();
    }
    let waits = request.uri().query().is_some_and(|query| query.contains("index="));
    let began = Instant::now();
    let response = next.run(request).await;
    if response.status().is_server_error() && response.status() != StatusCode::NOT_IMPLEMENTED {
        app.counts.failed.increment();
    }
    if !waits {
        app.counts.answered.since(began);
    }
    response
}

async fn cross_origin(request: Request, next: Next) -> Response {
    let open = CROSS_ORIGIN.iter().any(|path| request.uri().path().starts_with(path));
    if !open || !request.headers().contains_key(header::ORIGIN) {
        return next.run(request).await;
    }
    let asks_first = request.method() == Method::OPTIONS;
    let headers = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = if asks_first { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    out.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if asks_first {
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("HEAD, GET"));
        if let Some(headers) = headers {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_s_id_is_everything_before_a_known_ending() {
        let rewritten = |path: &str| job_uri(&path.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(rewritten("/v1/job/web"), None);
        assert_eq!(rewritten("/v1/job/web/allocations?all=true"), None);
        assert_eq!(rewritten("/v1/jobs"), None);
        assert_eq!(rewritten("/v1/job/web/version/0").as_deref(), Some("/v1/job/web%2Fversion%2F0"));
        assert_eq!(
            rewritten("/v1/job/p/dispatch-1-a/allocations?x=1").as_deref(),
            Some("/v1/job/p%2Fdispatch-1-a/allocations?x=1")
        );
        assert_eq!(rewritten("/v1/job/web/versions/golden/tag"), None);
        assert_eq!(rewritten("/v1/job/a/b/versions/golden/tag").as_deref(), Some("/v1/job/a%2Fb/versions/golden/tag"));
        assert_eq!(rewritten("/v1/job/a/b/periodic/force").as_deref(), Some("/v1/job/a%2Fb/periodic/force"));
    }
}
