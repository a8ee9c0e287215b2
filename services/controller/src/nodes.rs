//! Nodes come and go: beats in, status changes out.

use std::sync::Arc;
use std::time::Duration;

use client::lease::Held;
use control::Trigger;
use control::{heartbeat, node};
use fsm::State;
use fsm::command::{Command, NodeStatusChange};
use kit::process::Shutdown;
use model::Timestamp;

use crate::Controller;
use crate::shared::now_ms;

const TICK_MAX: Duration = Duration::from_millis(400);
const PROPOSE: Duration = Duration::from_secs(5);

/// Watches until shutdown.
pub async fn run(controller: Arc<Controller>, shutdown: Shutdown) {
    let mut term = None;
    while !shutdown.is_requested() {
        if let Some(held) = controller.active().await {
            if term != Some(held.term) {
                controller.shared.lock().beats.take_over(&controller.replica.state(), now_ms());
                term = Some(held.term);
            }
            step(&controller, &held).await;
        } else {
            term = None;
        }
        let _ = shutdown.or(pause(&controller)).await;
    }
}

async fn pause(controller: &Controller) {
    let deadline = controller.shared.lock().beats.next_deadline_ms();
    let wait = deadline.map_or(TICK_MAX, |at| Duration::from_millis(at.saturating_sub(now_ms())));
    tokio::select! {
        () = controller.shared.nodes.notified() => {}
        () = tokio::time::sleep(wait.clamp(Duration::from_millis(5), TICK_MAX)) => {}
    }
}

async fn step(controller: &Controller, held: &Held) {
    let state = controller.replica.state();
    let now = Timestamp(client::clock::unix_nanos());
    let changes = {
        let mut watch = controller.shared.lock();
        let mut changes = watch.beats.tick(&state, now_ms(), now);
        for id in std::mem::take(&mut watch.returning) {
            changes.extend(state.node(&id).and_then(|node| heartbeat::on_beat(&state, node, now)));
        }
        changes
    };
    if changes.is_empty() {
        return;
    }
    let evals = evals(&state, &changes, now);
    for change in &changes {
        tracing::info!(node_id = %change.node_id, status = %change.status, "node's status changes");
    }
    let command = Command::NodeStatusUpdate { updates: changes, evals };
    if let Err(error) = controller.state.propose(command, Some(held.fence()), PROPOSE).await {
        tracing::warn!(error = %error, "nodes' status is not written, trying again");
    }
}

/// One evaluation per job that the changes concern.
fn evals(state: &State, changes: &[NodeStatusChange], now: Timestamp) -> Vec<model::Evaluation> {
    let mut seen = std::collections::BTreeSet::new();
    let mut evals = Vec::new();
    for change in changes {
        let Some(old) = state.node(&change.node_id) else { continue };
        if node::transition_needs_evals(old.status, change.status) {
            let mut new_id = client::state::new_uuid;
            let found = node::evals_for_node(state, &change.node_id, Trigger::NodeUpdate, now, &mut new_id);
            evals.extend(found.into_iter().filter(|e| seen.insert((e.namespace.clone(), e.job_id.clone()))));
        }
    }
    evals
}
