//! Turns openraft's metrics into [`Status`], soon after a change of role or leader and a few times a
//! second otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use crate::contract::{Peer, Role, Status};
use crate::node::Inner;
use crate::types::{TypeConfig, index_of};

/// Progress of indexes is published at most this often.
const PACE: Duration = Duration::from_millis(100);

/// When a message of the leader was last accepted, in milliseconds of this node's own clock.
pub(crate) struct LastHeard {
    since: Instant,
    at_ms: AtomicU64,
}

impl LastHeard {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { since: Instant::now(), at_ms: AtomicU64::new(u64::MAX) })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn touch(&self) {
        self.at_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub fn age(&self) -> Option<Duration> {
        match self.at_ms.load(Ordering::Relaxed) {
            u64::MAX => None,
            at => Some(Duration::from_millis(self.now_ms().saturating_sub(at))),
        }
    }
}

/// How long ago a quorum was with the leader, as far as this node knows: of a leader, since it sent what a
/// quorum has answered; of the others, since they accepted the leader's last message.
pub(crate) fn contact(metrics: &openraft::RaftMetrics<TypeConfig>, heard: &LastHeard) -> Option<Duration> {
    if metrics.state != ServerState::Leader {
        return heard.age();
    }
    let mut voters = metrics.membership_config.membership().voter_ids();
    if voters.next() == Some(metrics.id) && voters.next().is_none() {
        return Some(Duration::ZERO);
    }
    metrics.last_quorum_acked.map(|at| at.into_inner().elapsed())
}

pub(crate) fn of(metrics: &openraft::RaftMetrics<TypeConfig>) -> Status {
    let members = metrics.membership_config.membership();
    let peers = |ids: &mut dyn Iterator<Item = u64>| -> Vec<Peer> {
        ids.filter_map(|id| members.get_node(&id).cloned()).collect()
    };
    let role = match (&metrics.running_state, metrics.state) {
        (Err(_), _) | (_, ServerState::Shutdown) => Role::Stopped,
        (_, ServerState::Learner) => Role::Learner,
        (_, ServerState::Follower) => Role::Follower,
        (_, ServerState::Candidate) => Role::Candidate,
        (_, ServerState::Leader) => Role::Leader,
    };
    let leader = metrics.current_leader.filter(|_| role != Role::Stopped);
    Status {
        id: metrics.id,
        role,
        term: metrics.current_term,
        leader: leader.and_then(|id| members.get_node(&id).cloned()),
        voters: peers(&mut members.voter_ids()),
        learners: peers(&mut members.learner_ids()),
        initialized: metrics.last_log_index.is_some(),
        last_log: metrics.last_log_index.unwrap_or(0),
        committed: index_of(&metrics.local_committed),
        applied: index_of(&metrics.last_applied),
        snapshot: index_of(&metrics.snapshot),
        purged: index_of(&metrics.purged),
        matched: metrics.replication.iter().flatten().map(|(id, matched)| (*id, index_of(matched))).collect(),
        fault: metrics.running_state.as_ref().err().map(ToString::to_string),
    }
}

/// Publishes until openraft has ended, the last word included.
pub(crate) async fn publish(raft: Inner, out: watch::Sender<Status>) {
    let (mut server, mut all) = (raft.server_metrics(), raft.metrics());
    let mut paced = Instant::now();
    loop {
        let status = of(&all.borrow_watched());
        let stopped = status.role == Role::Stopped;
        // A heartbeat changes openraft's metrics, and nothing of ours.
        if *out.borrow() != status {
            out.send_replace(status);
            paced = Instant::now() + PACE;
        }
        if stopped {
            return;
        }
        let changed = tokio::select! {
            changed = server.changed() => changed.is_ok(),
            changed = async { if paced > Instant::now() { tokio::time::sleep_until(paced.into()).await } all.changed().await } => changed.is_ok(),
        };
        if !changed {
            let mut status = of(&all.borrow_watched());
            status.role = Role::Stopped;
            status.leader = None;
            status.fault.get_or_insert_with(|| "raft ended".to_owned());
            out.send_replace(status);
            return;
        }
    }
}
