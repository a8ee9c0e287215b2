//! What nodes say of their allocations, committed in batches.
//!
//! The first news of a quiet moment waits a few milliseconds for company; whoever sent it is answered
//! once it is committed.

use std::sync::Arc;
use std::time::Duration;

use client::state::new_uuid;
use fsm::State;
use fsm::command::{AllocClientUpdate, Command};
use kit::process::Shutdown;
use model::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::Controller;

const LINGER: Duration = Duration::from_millis(2);
const PROPOSE: Duration = Duration::from_secs(8);
/// How long news of allocations that are not known here waits for the replica.
const LAG: Duration = Duration::from_secs(1);
/// Updates in one command.
const BATCH_MAX: usize = 1_024;

/// News of one gateway, and who waits for it to be committed.
pub struct News {
    pub updates: Vec<AllocClientUpdate>,
    pub done: oneshot::Sender<bool>,
}

/// Commits until shutdown.
pub async fn run(controller: Arc<Controller>, mut news: mpsc::Receiver<News>, shutdown: Shutdown) {
    while let Some(Some(first)) = shutdown.or(news.recv()).await {
        tokio::time::sleep(LINGER).await;
        let mut count = first.updates.len();
        let mut batch = vec![first];
        while count < BATCH_MAX
            && let Ok(more) = news.try_recv()
        {
            count += more.updates.len();
            batch.push(more);
        }
        let taken = commit(&controller, &mut batch).await;
        for one in batch {
            // A gateway that has gone away asks again from elsewhere.
            let _ = one.done.send(taken);
        }
    }
}

/// A copy of the state that has the allocations. A node may be faster than the feed: of an allocation that
/// is not known here nothing would follow, not even that it failed.
async fn knowing(controller: &Controller, updates: &[AllocClientUpdate]) -> Arc<State> {
    let state = controller.replica.state();
    if updates.iter().all(|update| state.alloc(&update.id).is_some()) {
        return state;
    }
    match controller.state.read_index(LAG).await {
        Ok(index) => controller.replica.reached(index, LAG).await.unwrap_or(state),
        Err(_) => state,
    }
}

async fn commit(controller: &Controller, batch: &mut [News]) -> bool {
    let Some(held) = controller.active().await else { return false };
    let updates: Vec<AllocClientUpdate> = batch.iter_mut().flat_map(|n| std::mem::take(&mut n.updates)).collect();
    let state = knowing(controller, &updates).await;
    let now = Timestamp(client::clock::unix_nanos());
    let mut rest = updates.into_iter();
    loop {
        // One sender may have more than a command carries.
        let updates: Vec<AllocClientUpdate> = rest.by_ref().take(BATCH_MAX).collect();
        if updates.is_empty() {
            return true;
        }
        let evals = control::alloc::evals_for_updates(&state, &updates, now, &mut new_uuid);
        let command = Command::AllocClientUpdate { updates, evals };
        if let Err(error) = controller.state.propose(command, Some(held.fence()), PROPOSE).await {
            tracing::warn!(error = %error, "news of allocations is not written, its senders try again");
            return false;
        }
    }
}
