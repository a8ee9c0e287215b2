//! What does a service answer when something below its handlers refuses (a body that is no JSON or too long, a
//! query that cannot be read, a path that is not there)? The same as a handler: a code and a message as JSON, with
//! a status that its document names.

use api::{Code, ErrorBody};
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;

use crate::guard::refusal_body;

/// Longest text that is kept of a refusal.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Where services talk with each other. What else a listener serves (the public API, passed on) has texts of its own.
const INTERNAL: &str = "/v1/internal/";

/// Every error of the internal routes is an [`ErrorBody`].
pub fn everywhere(router: Router) -> Router {
    router.layer(from_fn(async |request: Request, next: Next| {
        let internal = request.uri().path().starts_with(INTERNAL);
        let response = next.run(request).await;
        if internal { told(response).await } else { response }
    }))
}

async fn told(response: Response) -> Response {
    let status = response.status();
    let json = header::HeaderValue::from_static("application/json");
    let is_error = status.is_client_error() || status.is_server_error();
    // A stream has no length; what refuses has said all it has to say.
    let short = response.body().size_hint().upper().is_some_and(|bytes| bytes <= TEXT_BYTES_MAX as u64);
    if !is_error || !short || response.headers().get(header::CONTENT_TYPE) == Some(&json) {
        return response;
    }
    let (head, body) = response.into_parts();
    let Ok(text) = axum::body::to_bytes(body, TEXT_BYTES_MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    let (status, code) = named(status);
    let text = String::from_utf8_lossy(&text);
    let message = if text.is_empty() { status.canonical_reason().unwrap_or("refused").to_owned() } else { text.into() };
    let mut told = refusal_body(status, &ErrorBody::new(code, message));
    for (name, value) in &head.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            told.headers_mut().insert(name, value.clone());
        }
    }
    told
}

/// Status and code for a status; what a body is not fit for is a bad request.
fn named(status: StatusCode) -> (StatusCode, Code) {
    match status {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            (StatusCode::BAD_REQUEST, Code::BadRequest)
        }
        other => {
            let code = Code::ALL.iter().copied().find(|code| code.status() == other);
            (other, code.unwrap_or(if other.is_client_error() { Code::BadRequest } else { Code::Internal }))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::extract::{DefaultBodyLimit, Query};
    use axum::http::Request;
    use axum::routing::{get, post};
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Deserialize)]
    struct Number {
        number: u32,
    }

    async fn answer(method: &str, path: &str, body: &'static str) -> (StatusCode, ErrorBody) {
        let router = Router::new()
            .route("/v1/internal/number", post(|Json(asked): Json<Number>| async move { asked.number.to_string() }))
            .route("/v1/internal/number", get(|Query(asked): Query<Number>| async move { asked.number.to_string() }))
            .layer(DefaultBodyLimit::max(64));
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let response = everywhere(router).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn what_an_extractor_refuses_is_told_as_a_handler_would() {
        let wrong = [
            ("POST", "/v1/internal/number", "no json", StatusCode::BAD_REQUEST, Code::BadRequest),
            ("POST", "/v1/internal/number", r#"{"number": -1}"#, StatusCode::BAD_REQUEST, Code::BadRequest),
            ("GET", "/v1/internal/number?number=x", "", StatusCode::BAD_REQUEST, Code::BadRequest),
            ("POST", "/v1/internal/number", LONG, StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge),
            ("GET", "/v1/internal/nowhere", "", StatusCode::NOT_FOUND, Code::NotFound),
            ("PUT", "/v1/internal/number", "", StatusCode::METHOD_NOT_ALLOWED, Code::BadRequest),
        ];
        for (method, path, body, status, code) in wrong {
            let (answered, told) = answer(method, path, body).await;
            assert_eq!((answered, told.code()), (status, code), "{method} {path} {body}");
            assert!(!told.message.is_empty());
        }
    }

    const LONG: &str = r#"{"number": 1, "and": "more than sixty-four bytes, which is as much as is read"}"#;
}
