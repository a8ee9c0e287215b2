//! Calls to whoever is the controller at the moment.

use std::time::Duration;

use client::active::Active;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

const RETRY: Duration = Duration::from_millis(100);

/// A call that is as good made twice, tried again until `within` is over: while one controller goes and
/// the next comes nobody takes it.
///
/// # Errors
/// Why the last attempt failed.
pub(super) async fn post<Req: Serialize, Resp: DeserializeOwned>(
    controller: &Active,
    path: &str,
    body: &Req,
    attempt: Duration,
    within: Duration,
) -> Result<Resp, String> {
    let deadline = Instant::now() + within;
    loop {
        match controller.post(path, body, attempt).await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() + RETRY >= deadline => return Err(error.to_string()),
            Err(error) => tracing::debug!(error = %error, "the controller did not take it, trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
