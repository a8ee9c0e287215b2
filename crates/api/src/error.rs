//! Errors between services: a stable code, a sentence, and when to try again. This table is the only
//! place that knows which HTTP status an error has.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of an error answer between services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Machine-readable name, see [`Code`].
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
    /// Milliseconds to wait before trying again, if trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:ident;)+) => {
        /// What went wrong, for a program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// The request is malformed.
    BadRequest = "bad_request", BAD_REQUEST;
    /// The caller shows no certificate of this cluster.
    Unauthenticated = "unauthenticated", UNAUTHORIZED;
    /// The caller's certificate does not name a role that may call this.
    Forbidden = "forbidden", FORBIDDEN;
    NotFound = "not_found", NOT_FOUND;
    /// The state of things does not allow it; the same request fails again.
    Conflict = "conflict", CONFLICT;
    /// The lease term in the request is over: the caller must stop acting.
    StaleTerm = "stale_term", CONFLICT;
    /// The session, delivery or token is no longer valid.
    StaleDelivery = "stale_delivery", CONFLICT;
    /// The feed's window does not reach back that far: start again from a snapshot.
    Gone = "gone", GONE;
    TooLarge = "too_large", PAYLOAD_TOO_LARGE;
    /// A named limit is reached.
    TooMany = "too_many", TOO_MANY_REQUESTS;
    /// No raft leader is known at the moment; nothing was done.
    NoLeader = "no_leader", SERVICE_UNAVAILABLE;
    /// This process does not hold the lease for the work; nothing was done.
    NotActive = "not_active", SERVICE_UNAVAILABLE;
    /// The replica has not caught up, or the service is starting or stopping; nothing was done.
    NotReady = "not_ready", SERVICE_UNAVAILABLE;
    /// It took too long; whether it happened is not known.
    UnknownOutcome = "unknown_outcome", GATEWAY_TIMEOUT;
    /// The peer that the answer depends on cannot be reached.
    Unreachable = "unreachable", BAD_GATEWAY;
    /// Our fault; the cause is in the log under the request's id.
    Internal = "internal", INTERNAL_SERVER_ERROR;
}

impl ErrorBody {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_after_ms = match code {
            Code::NoLeader | Code::NotActive | Code::NotReady => Some(100),
            Code::TooMany => Some(1_000),
            _ => None,
        };
        Self { code: code.as_str().to_owned(), message: message.into(), retry_after_ms }
    }

    /// The code, `Internal` for one this build does not know.
    pub fn code(&self) -> Code {
        Code::parse(&self.code).unwrap_or(Code::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_text_and_has_an_error_status() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }
}
