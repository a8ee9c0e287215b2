//! Calls to whoever is the controller at the moment.
//!
//! The controller changes hands now and then, and for a moment there is none. All messages of the agents'
//! protocol are as good said twice, so whatever went wrong is tried again, each time at whoever holds the
//! lease by then; only a refusal that would be the same again ends it earlier.

use std::time::Duration;

use client::active::{Active, ActiveError};
use client::anyone::lasting;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A call that is as good made twice, tried again until `within` is over: while one controller goes and
/// the next comes nobody takes it.
///
/// # Errors
/// Why the last attempt failed.
pub async fn post<Req: Serialize, Resp: DeserializeOwned>(
    controller: &Active,
    path: &str,
    body: &Req,
    attempt: Duration,
    within: Duration,
) -> Result<Resp, String> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match controller.post(path, body, attempt.min(left)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(pause) = pause(&error).filter(|pause| Instant::now() + *pause < deadline) else {
            return Err(error.to_string());
        };
        tracing::debug!(error = %error, "the controller did not take it, trying again");
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before another attempt; `None` where that is of no use.
fn pause(error: &ActiveError) -> Option<Duration> {
    let ActiveError::Call(call) = error else { return Some(RETRY) };
    match call.status() {
        Some(status) if status.as_u16() == 429 => Some(call.retry_after().unwrap_or(RETRY).clamp(RETRY, RETRY_MAX)),
        Some(status) if lasting(status) => None,
        _ => Some(RETRY),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use api::{Code, ErrorBody};
    use client::error::CallError;
    use fsm::LeaseName;

    use super::*;

    #[test]
    fn only_what_would_be_refused_again_is_not_tried_again() {
        let said = |code: Code| {
            let addr = SocketAddr::from(([127, 0, 0, 1], 1));
            ActiveError::Call(CallError::Status { addr, status: code.status(), body: ErrorBody::new(code, "") })
        };
        assert_eq!(pause(&ActiveError::Nobody(LeaseName::Controller)), Some(RETRY));
        for passing in [Code::NotActive, Code::NotReady, Code::NoLeader, Code::UnknownOutcome, Code::Internal] {
            assert_eq!(pause(&said(passing)), Some(RETRY));
        }
        assert_eq!(pause(&said(Code::TooMany)), Some(RETRY_MAX));
        for lasting in [Code::BadRequest, Code::Forbidden, Code::TooLarge, Code::Conflict] {
            assert_eq!(pause(&said(lasting)), None);
        }
    }
}
