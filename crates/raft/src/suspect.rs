//! What to do when the leader is known to be gone: ask for an election at once.
//!
//! Peers refuse even a pre-vote while they believe in the leader, which is half of `election_max` after
//! its last word. So this node first ceases to believe in it, then asks. It wins only if a quorum has
//! ceased to believe too, each by its own observation: one that errs alone disturbs nobody. Voters take
//! turns by id, to not split the vote; the question is repeated, at growing intervals, until the leader
//! is replaced or heard again, or the ordinary election timeout takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::contract::{PeerId, Status};
use crate::node::Inner;
use crate::status::LastHeard;

/// Between the turns of two voters, and before the first repetition.
const STEP: Duration = Duration::from_millis(25);

pub(crate) struct Suspicion {
    pub raft: Inner,
    pub me: PeerId,
    pub status: watch::Receiver<Status>,
    pub heard: Arc<LastHeard>,
    pub patience: Duration,
    /// One at a time.
    pub running: Arc<AtomicBool>,
}

impl Suspicion {
    pub fn start(self, runtime: &Handle, suspect: PeerId) {
        let status = self.status.borrow().clone();
        if suspect == self.me || status.leader.is_none_or(|leader| leader.id != suspect) {
            return;
        }
        let others: Vec<PeerId> = status.voters.iter().map(|p| p.id).filter(|id| *id != suspect).collect();
        let Some(turn) = others.iter().position(|id| *id == self.me) else { return };
        if !self.running.swap(true, Ordering::Relaxed) {
            let turn = u32::try_from(turn).unwrap_or(u32::MAX);
            runtime.spawn(self.run(suspect, turn));
        }
    }

    async fn run(self, suspect: PeerId, turn: u32) {
        let began = Instant::now();
        if self.disbelieve(suspect).await {
            let (mut next, mut pause) = (began + STEP * 3 * turn.min(8), STEP);
            while next < began + self.patience {
                tokio::time::sleep_until(next).await;
                // A word that was under way when it went may still have come in just behind.
                let spoke = self.heard.age().is_some_and(|age| age + Duration::from_millis(10) < began.elapsed());
                let still = self.status.borrow().leader.as_ref().is_some_and(|l| l.id == suspect);
                if !still || spoke || self.raft.trigger().elect(true).await.is_err() {
                    break;
                }
                next = Instant::now() + pause;
                pause *= 2;
            }
        }
        self.running.store(false, Ordering::Relaxed);
    }

    /// As if the suspect had told us to trust its successor, whoever that will be.
    async fn disbelieve(&self, suspect: PeerId) -> bool {
        let vote = self.raft.metrics().borrow_watched().vote;
        if !vote.committed || vote.leader_id.voted_for != suspect {
            return false;
        }
        let request = TransferLeaderRequest::new(vote, suspect, None);
        matches!(self.raft.handle_transfer_leader(request).await, Ok(Ok(())))
    }
}
