//! What to do when the connection to the leader breaks: ask for an election as early as it can be won.
//!
//! Peers refuse even a pre-vote while they believe in the leader, which is half of `election_max`
//! after its last word. So the request is repeated until it can succeed, the leader speaks again, or
//! the ordinary election timeout takes over. Voters wait their turn by id, to not split the vote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::contract::{PeerId, Status};
use crate::node::Inner;
use crate::status::LastHeard;

const STEP: Duration = Duration::from_millis(25);

pub(crate) struct Suspicion {
    pub raft: Inner,
    pub me: PeerId,
    pub status: watch::Receiver<Status>,
    pub heard: Arc<LastHeard>,
    pub heartbeat: Duration,
    pub patience: Duration,
    /// One at a time.
    pub running: Arc<AtomicBool>,
}

impl Suspicion {
    pub fn start(self, runtime: &Handle) {
        let status = self.status.borrow().clone();
        let Some(leader) = status.leader.filter(|l| l.id != self.me) else { return };
        let others: Vec<PeerId> = status.voters.iter().map(|p| p.id).filter(|id| *id != leader.id).collect();
        let Some(turn) = others.iter().position(|id| *id == self.me) else { return };
        if !self.running.swap(true, Ordering::Relaxed) {
            runtime.spawn(self.run(leader.id, turn as u32));
        }
    }

    async fn run(self, suspect: PeerId, turn: u32) {
        let began = Instant::now();
        // The first in line asks at every step, the next only once it had a fair chance.
        let lease = self.patience / 2;
        let mut next = began + if turn == 0 { STEP } else { lease + STEP * 3 * turn };
        while next < began + self.patience {
            tokio::time::sleep_until(next).await;
            next += STEP;
            let quiet_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let spoke = self.heard.age_ms().is_some_and(|age| age < quiet_ms);
            let still = self.status.borrow().leader.as_ref().is_some_and(|l| l.id == suspect);
            if !still || spoke && began.elapsed() > self.heartbeat || self.raft.trigger().elect(true).await.is_err() {
                break;
            }
        }
        self.running.store(false, Ordering::Relaxed);
    }
}
