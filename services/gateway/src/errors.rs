//! How the public API says no: a status and one sentence as plain text, in the words that clients match
//! on. Where the reference answers a caller's mistake with 500, the status here is the fitting 4xx.

use std::fmt::Display;

use api::filter::FilterError;
use api::go_json::BodyError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::state::ProposeError;
use fsm::Refusal;

use crate::answer::Meta;

/// An answer that says no.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    text: String,
    /// Reads that find nothing still say at which index.
    meta: Option<Box<Meta>>,
    retry_after_s: Option<u64>,
}

/// What handlers return.
pub type Answered = Result<Response, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), meta: None, retry_after_s: None }
    }

    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub fn no_leader() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader").retry_after(1)
    }

    /// The cause goes to the log; the caller learns that it is not their fault.
    pub fn internal(what: &'static str, cause: &dyn Display) -> Self {
        tracing::error!(what, error = %cause, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// This gateway cannot answer now; another one, or this one soon, can.
    pub fn not_ready(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(1)
    }

    /// A named limit is reached.
    pub fn too_many(text: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, text).retry_after(1)
    }

    #[must_use]
    pub fn at(mut self, meta: Meta) -> Self {
        self.meta = Some(Box::new(meta));
        self
    }

    #[must_use]
    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let mut response = (self.status, kind, self.text).into_response();
        if let Some(meta) = self.meta {
            meta.write(response.headers_mut());
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(refusal) => refusal.into(),
            ProposeError::Unavailable(_) => Self::no_leader(),
            ProposeError::Unknown(ref cause) => {
                tracing::warn!(error = %cause, "outcome of a command is not known");
                Self::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()).retry_after(1)
            }
            ProposeError::Rejected(cause) => match cause.status() {
                Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                    Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request is too large for one command")
                }
                _ => Self::internal("command was rejected", &cause),
            },
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotFound { .. } => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) | Refusal::RequestReused | Refusal::RequestTooOld => StatusCode::CONFLICT,
            Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
            Refusal::StaleLease { .. } | Refusal::LeaseHeld { .. } | Refusal::WrongRole { .. } => {
                return Self::internal("command was refused", &refusal);
            }
        };
        Self::new(status, refusal.to_string())
    }
}
