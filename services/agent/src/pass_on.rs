//! The public API on a machine that runs no gateway: requests are passed on to one, and answers back.
//!
//! Nothing is looked into: bodies and answers stream, an upgraded connection (exec) is copied both ways. A
//! gateway that cannot be reached is passed over for another, as long as nothing of the request was sent.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use client::http::{Http, Target};
use hyper_util::rt::TokioIo;
use kit::process::Shutdown;
use kit::server::bounds::Bounds;
use kit::server::live::Live;
use kit::server::{self, Limits, Listener, Tls};
use model::Role;
use tokio::task::JoinHandle;

use crate::gateways::Gateways;

/// Bodies stream through; this is for what would be read whole, which is nothing.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Requests under way at a time.
const REQUESTS_MAX: usize = 512;
/// Until the answer begins; blocking queries wait for up to ten minutes and a bit.
const ANSWER: Duration = Duration::from_secs(700);

#[derive(Clone)]
struct App {
    http: Http,
    gateways: Gateways,
    requests: std::sync::Arc<tokio::sync::Semaphore>,
}

/// Limits of the listener, as the operator wants them.
pub fn limits(bounds: &Bounds) -> Limits {
    let usual = Limits { connections_max: 1_024, drain: Duration::from_secs(1), ..Limits::public(BODY_BYTES_MAX) };
    bounds.limit(usual)
}

/// Serves until shutdown.
pub fn spawn(
    listener: Listener,
    tls: Tls,
    http: Http,
    gateways: Gateways,
    bounds: &Bounds,
    live: &Live,
    shutdown: Shutdown,
) -> JoinHandle<()> {
    if let Ok(addr) = listener.local_addr() {
        tracing::info!(%addr, "public api is passed on");
    }
    let requests = std::sync::Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    let router = Router::new().fallback(pass_on).with_state(App { http, gateways, requests });
    let (router, limits) = (bounds.adorn(router), Limits { live: Some(live.clone()), ..limits(bounds) });
    tokio::spawn(server::serve(listener, tls, router, limits, shutdown))
}

fn failed(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

async fn pass_on(State(app): State<App>, mut request: Request) -> Response {
    let Ok(permit) = app.requests.clone().try_acquire_owned() else {
        return failed(StatusCode::TOO_MANY_REQUESTS, "too many requests are being passed on, try again later");
    };
    let mut gateways = app.gateways.in_order();
    if gateways.is_empty() {
        gateways.extend(app.gateways.pick(None).await);
    }
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let asked = upgrade.then(|| hyper::upgrade::on(&mut request));
    // Whoever answers first to a knock gets the request: a body cannot be sent twice.
    let mut target = None;
    for addr in gateways {
        let to = Target::new(addr, Role::Gateway);
        if app.http.call(&to, client::http::Call::get("/health/live", Duration::from_secs(2))).await.is_ok() {
            target = Some(to);
            break;
        }
    }
    let Some(target) = target else {
        return failed(StatusCode::INTERNAL_SERVER_ERROR, "No path to region: no server can be reached");
    };
    *request.version_mut() = Version::HTTP_11;
    if let Some(path) = request.uri().path_and_query().and_then(|p| p.as_str().parse().ok()) {
        *request.uri_mut() = path;
    }
    // The gateway answers it as anybody's, not as this agent's.
    request.headers_mut().insert(api::headers::PASSED_ON, HeaderValue::from_static("1"));
    if !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("steppe"));
    }
    let answer = match tokio::time::timeout(ANSWER, app.http.pass_on(&target, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(gateway = %target.addr, %error, "a request could not be passed on");
            return failed(StatusCode::BAD_GATEWAY, "the server ended the connection without an answer");
        }
        Err(_) => return failed(StatusCode::GATEWAY_TIMEOUT, "the server does not answer"),
    };
    returned(answer, asked, permit)
}

fn returned(
    mut answer: hyper::Response<hyper::body::Incoming>,
    asked: Option<hyper::upgrade::OnUpgrade>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Response {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(asked) = asked
    {
        let theirs = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            let _held = permit;
            if let (Ok(ours), Ok(theirs)) = (asked.await, theirs.await) {
                // Either end may go at any time; then both do.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
            }
        });
        return answer.map(Body::new);
    }
    // The permit is given back when the answer has been read, or nobody reads it any more.
    answer.map(|body| {
        let pieces = http_body_stream(body);
        Body::from_stream(futures::StreamExt::map(pieces, move |piece| {
            let _held = &permit;
            piece
        }))
    })
}

fn http_body_stream(
    body: hyper::body::Incoming,
) -> impl futures::Stream<Item = Result<axum::body::Bytes, axum::Error>> + Send + 'static {
    Body::new(body).into_data_stream()
}
