//! Empties nodes that are being drained: looks when one of them, or work that its move depends on, changed,
//! and when a deadline comes.
//!
//! ```text
//!   feed ─► a node begins, changes or ends a drain ─┐
//!   feed ─► any allocation, while a node drains ────┼─► decide all ─► commands ─► seen in the replica
//!   next deadline, now and then ────────────────────┘      └ not written: again in a moment
//! ```
//!
//! While no node drains, this looks at nothing.

use std::sync::Arc;
use std::time::Duration;

use client::lease::Held;
use client::state::new_uuid;
use control::drain::decide;
use fsm::Command;
use kit::process::Shutdown;
use model::{Index, Timestamp};

use crate::Controller;

/// With a drain under way, all is looked at this often, whatever was or was not told.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Changes of rows that come together are looked at once.
const COALESCE: Duration = Duration::from_millis(50);
const PROPOSE: Duration = Duration::from_secs(5);
/// After a command that was not written.
const AGAIN: Duration = Duration::from_millis(500);

/// Watches until shutdown.
pub async fn run(controller: Arc<Controller>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        let Some(held) = controller.active().await else {
            let _ = shutdown.or(controller.standby()).await;
            continue;
        };
        let wait = look(&controller, &held).await;
        let woken = async {
            tokio::select! {
                () = controller.shared.drains.notified() => tokio::time::sleep(COALESCE).await,
                () = tokio::time::sleep(wait) => {}
            }
        };
        let _ = shutdown.or(woken).await;
    }
}

/// One look; how long until the next is due without news.
async fn look(controller: &Controller, held: &Held) -> Duration {
    if !controller.shared.drains_any() {
        return LOOK_EVERY;
    }
    // What woke this up is in the copy as soon as its line was told.
    let index = controller.shared.drains_index();
    let Ok(state) = controller.replica.reached(index, PROPOSE).await else { return AGAIN };
    let now = Timestamp(client::clock::unix_nanos());
    let decision = decide(&state, now, &mut new_uuid);
    let mut written = Index(0);
    for command in decision.commands {
        say(&command);
        match controller.state.propose(command, Some(held.fence()), PROPOSE).await {
            Ok((index, _)) => written = written.max(index),
            Err(error) => {
                tracing::warn!(error = %error, "a drain is not moved on, trying again");
                return AGAIN;
            }
        }
    }
    // What was just written is seen before the next look, or it would be decided again.
    let _ = controller.replica.reached(written, PROPOSE).await;
    let now = client::clock::unix_nanos();
    let ahead = decision.wake_at.map(|at| u64::try_from(at.unix_nanos().saturating_sub(now)).unwrap_or(0));
    ahead.map_or(LOOK_EVERY, |ns| Duration::from_nanos(ns).clamp(Duration::from_millis(20), LOOK_EVERY))
}

fn say(command: &Command) {
    match command {
        Command::AllocDesiredTransition { transitions, evals } => {
            tracing::info!(allocs = transitions.len(), jobs = evals.len(), "drain moves allocations");
        }
        Command::NodeDrain { node_id, .. } => tracing::info!(node_id = %node_id, "node's drain is complete"),
        _ => {}
    }
}
