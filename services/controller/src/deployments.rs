//! Moves deployments on: looks at each active one when rows changed, and when its own time comes.

use std::sync::Arc;
use std::time::Duration;

use client::lease::Held;
use client::state::new_uuid;
use kit::process::Shutdown;
use model::Timestamp;

use crate::Controller;

const LOOK_MAX: Duration = Duration::from_secs(5);
/// Changes of rows that come together are looked at once.
const COALESCE: Duration = Duration::from_millis(10);
const PROPOSE: Duration = Duration::from_secs(5);

/// Watches until shutdown.
pub async fn run(controller: Arc<Controller>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        let wait = match controller.active().await {
            Some(held) => look(&controller, &held).await,
            None => LOOK_MAX / 10,
        };
        let woken = async {
            tokio::select! {
                () = controller.shared.deployments.notified() => tokio::time::sleep(COALESCE).await,
                () = tokio::time::sleep(wait) => {}
            }
        };
        let _ = shutdown.or(woken).await;
    }
}

/// One look at all active deployments; how long until the next is due without news.
async fn look(controller: &Controller, held: &Held) -> Duration {
    let state = controller.replica.state();
    let now = Timestamp(client::clock::unix_nanos());
    let mut wait = LOOK_MAX;
    let mut written = model::Index(0);
    for deployment in state.deployments().filter(|d| d.status.is_active()) {
        let decision = control::deployment::decide(&state, deployment, now, &mut new_uuid);
        if let Some(at) = decision.wake_at {
            let ahead = u64::try_from(at.unix_nanos().saturating_sub(now.unix_nanos())).unwrap_or(0);
            wait = wait.min(Duration::from_nanos(ahead).max(Duration::from_millis(20)));
        }
        let Some(command) = decision.command else { continue };
        match controller.state.propose(command, Some(held.fence()), PROPOSE).await {
            Ok((index, _)) => written = written.max(index),
            Err(error) => {
                tracing::warn!(deployment_id = %deployment.id, error = %error, "deployment is not moved on, trying again");
                wait = wait.min(Duration::from_millis(500));
            }
        }
    }
    // What was just written is seen before the next look, or it would be decided again.
    let _ = controller.replica.reached(written, PROPOSE).await;
    wait
}
