//! Nodes come and go: beats in, status changes out.

use std::sync::Arc;
use std::time::Duration;

use client::lease::Held;
use control::Trigger;
use control::{heartbeat, node};
use fsm::State;
use fsm::command::{Command, NodeStatusChange};
use kit::process::Shutdown;
use model::{Evaluation, Timestamp};

use crate::Controller;
use crate::shared::now_ms;

const TICK_MAX: Duration = Duration::from_millis(400);
/// While no node's time runs.
const IDLE_TICK: Duration = Duration::from_millis(500);
const PROPOSE: Duration = Duration::from_secs(5);
/// Evaluations in one command, unless a single node has more.
const EVALS_MAX: usize = 2_000;
/// Suspicions in one command.
const SUSPECTS_MAX: usize = 2_048;

/// Watches until shutdown.
pub async fn run(controller: Arc<Controller>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        let Some(held) = controller.active().await else {
            let _ = shutdown.or(controller.standby()).await;
            continue;
        };
        step(&controller, &held).await;
        suspect(&controller, &held).await;
        let _ = shutdown.or(pause(&controller)).await;
    }
}

async fn pause(controller: &Controller) {
    let deadline = controller.shared.lock().beats.next_deadline_ms();
    let tick = async {
        match deadline.map(|at| Duration::from_millis(at.saturating_sub(now_ms()))) {
            Some(wait) => tokio::time::sleep(wait.clamp(Duration::from_millis(5), TICK_MAX)).await,
            None => client::calm::about(IDLE_TICK).await,
        }
    };
    tokio::select! {
        () = controller.shared.nodes.notified() => {}
        () = tick => {}
    }
}

async fn step(controller: &Controller, held: &Held) {
    let state = controller.replica.state();
    let now = Timestamp(client::clock::unix_nanos());
    let changes = {
        let mut watch = controller.shared.lock();
        watch.begin(held.term, &state, now_ms());
        let mut changes = watch.beats.tick(&state, now_ms(), now);
        for id in std::mem::take(&mut watch.returning) {
            changes.extend(state.node(&id).and_then(|node| heartbeat::on_beat(&state, node, now)));
        }
        changes
    };
    for (updates, evals) in commands(&state, changes, now) {
        for update in &updates {
            tracing::info!(node_id = %update.node_id, status = %update.status, "node's status changes");
        }
        if !write(controller, held, Command::NodeStatusUpdate { updates, evals }).await {
            return;
        }
    }
}

/// Tells the schedulers, by way of the state, which nodes no longer answer, and which do again.
async fn suspect(controller: &Controller, held: &Held) {
    let state = controller.replica.state();
    let suspects = controller.shared.lock().suspicions(&state, SUSPECTS_MAX);
    if suspects.is_empty() {
        return;
    }
    for (id, suspect) in &suspects {
        tracing::info!(node_id = %id, suspect, "node is suspect, or no longer");
    }
    write(controller, held, Command::NodeSuspect { suspects }).await;
}

/// Proposes, and waits until the replica shows it, or the same would be decided again.
async fn write(controller: &Controller, held: &Held, command: Command) -> bool {
    match controller.state.propose(command, Some(held.fence()), PROPOSE).await {
        Ok((index, _)) => controller.replica.reached(index, PROPOSE).await.is_ok(),
        Err(error) => {
            tracing::warn!(error = %error, "what nodes are is not written, trying again");
            false
        }
    }
}

/// The changes, with one evaluation per job that they concern, in commands of bounded size.
fn commands(
    state: &State,
    changes: Vec<NodeStatusChange>,
    now: Timestamp,
) -> Vec<(Vec<NodeStatusChange>, Vec<Evaluation>)> {
    let mut seen = std::collections::BTreeSet::new();
    let mut commands: Vec<(Vec<NodeStatusChange>, Vec<Evaluation>)> = Vec::new();
    for change in changes {
        let Some(old) = state.node(&change.node_id) else { continue };
        let mut evals = Vec::new();
        if node::transition_needs_evals(old.status, change.status) {
            let mut new_id = client::state::new_uuid;
            evals = node::evals_for_node(state, &change.node_id, Trigger::NodeUpdate, now, &mut new_id);
            evals.retain(|e| seen.insert((e.namespace.clone(), e.job_id.clone())));
        }
        match commands.last_mut() {
            Some((updates, all)) if all.len() + evals.len() <= EVALS_MAX => {
                updates.push(change);
                all.extend(evals);
            }
            _ => commands.push((vec![change], evals)),
        }
    }
    commands
}
