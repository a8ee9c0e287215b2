//! The routes every service has: is it alive, can it work, what does it count, what can it do.

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::ready::{Readiness, Unmet};
use crate::metrics::Metrics;

#[derive(Serialize)]
struct Ready {
    ready: bool,
    unmet: Vec<Unmet>,
}

/// `/health/live`, `/health/ready`, `/metrics` (with `format=json` the last interval's summary), `/openapi.json`.
///
/// `/health/live` takes no lock and touches nothing: it answers as long as the runtime runs.
pub fn router(readiness: Readiness, metrics: Metrics, openapi_json: &'static str) -> Router {
    let ready = move || {
        let unmet = readiness.unmet();
        async move {
            let status = if unmet.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, axum::Json(Ready { ready: unmet.is_empty(), unmet })).into_response()
        }
    };
    let metrics = move |RawQuery(query): RawQuery| {
        let json = query.is_some_and(|query| query == "format=json");
        let answer = if json {
            axum::Json(metrics.summary()).into_response()
        } else {
            content("text/plain; version=0.0.4; charset=utf-8", metrics.prometheus())
        };
        async move { answer }
    };
    Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(move || async move { content("application/json", openapi_json) }))
}

fn content(kind: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
