//! News of allocations, to whichever gateway takes it.

use std::sync::Arc;
use std::time::Duration;

use api::node::{NEWS, News};
use client::error::{CallError, Outcome};
use fsm::command::AllocClientUpdate;
use kit::process::Shutdown;

use super::{Link, Told, pause};
use crate::outbox::{BATCH_MAX, Outbox};

/// Committing may take an election.
const CALL: Duration = Duration::from_secs(10);

/// The same request would be refused again, by every gateway.
fn is_final(error: &CallError) -> bool {
    error.status().is_some_and(|status| {
        status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 409 | 425 | 429)
    })
}

impl Link {
    /// Sends news until shutdown, one batch at a time.
    pub async fn news(&self, outbox: Outbox, memory: impl Told, shutdown: Shutdown) {
        let (mut max, mut failures) = (BATCH_MAX, 0_u32);
        while let Some(batch) = shutdown.or(outbox.batch(max)).await {
            // One that is on its way is waited for: what is acknowledged need not be said by the next agent.
            match self.send(&batch).await {
                Ok(()) => {
                    outbox.acknowledge(&batch);
                    for update in batch {
                        // A later agent says it again if this is not written: no harm.
                        memory.told(update).await;
                    }
                    if failures > 0 {
                        tracing::info!("news of allocations is taken again");
                    }
                    (max, failures) = (BATCH_MAX, 0);
                }
                Err(error) if is_final(&error) && batch.len() > 1 => {
                    max = batch.len() / 2;
                    outbox.give_back(batch);
                }
                Err(error) if is_final(&error) => {
                    let alloc_id = batch.first().map(|u| u.id.to_string()).unwrap_or_default();
                    tracing::error!(alloc_id, error = %error, "news of an allocation is refused and dropped");
                    max = BATCH_MAX;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 || failures % 20 == 0 {
                        tracing::warn!(error = %error, failures, allocs = batch.len(), "news of allocations is not taken, trying again");
                    }
                    let wait = error.retry_after().unwrap_or_default().min(Duration::from_secs(5));
                    let _ = shutdown.or(tokio::time::sleep(wait + pause(failures.saturating_sub(2)))).await;
                    outbox.give_back(batch);
                }
            }
        }
    }

    async fn send(&self, batch: &[Arc<AllocClientUpdate>]) -> Result<(), CallError> {
        let news = News { updates: batch.iter().map(|u| AllocClientUpdate::clone(u)).collect() };
        let mut last = CallError::Request("no gateway is known".to_owned());
        for addr in self.gateways.in_order() {
            let call = client::http::Call::post(NEWS, CALL).json(&news)?;
            match self.http.poll(&Self::target(addr), call).await {
                Ok(_) => return Ok(()),
                // Saying it twice does no harm, but a slow cluster gets no faster by being asked at many doors.
                Err(error) if error.outcome() == Outcome::NotSent => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}
