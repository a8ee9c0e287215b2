//! What nodes say of their allocations, committed in batches.
//!
//! The first news of a quiet moment waits a few milliseconds for company; whoever sent it is answered
//! once it is committed.

use std::sync::Arc;
use std::time::Duration;

use client::state::new_uuid;
use fsm::command::{AllocClientUpdate, Command};
use kit::process::Shutdown;
use model::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::Controller;

const LINGER: Duration = Duration::from_millis(2);
const PROPOSE: Duration = Duration::from_secs(8);
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

async fn commit(controller: &Controller, batch: &mut [News]) -> bool {
    let Some(held) = controller.active().await else { return false };
    let updates: Vec<AllocClientUpdate> = batch.iter_mut().flat_map(|n| std::mem::take(&mut n.updates)).collect();
    let state = controller.replica.state();
    let now = Timestamp(client::clock::unix_nanos());
    let evals = control::alloc::evals_for_updates(&state, &updates, now, &mut new_uuid);
    let command = Command::AllocClientUpdate { updates, evals };
    match controller.state.propose(command, Some(held.fence()), PROPOSE).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(error = %error, "news of allocations is not written, its senders try again");
            false
        }
    }
}
