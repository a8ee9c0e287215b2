//! Does anybody lead, and who? Asked of all state servers at once, when an answer from one of them is late.
//!
//! A server that is frozen or cut off answers nothing, and one that was just cut off does not know it yet: it
//! still names its leader, or itself. What tells is how long ago a quorum was last heard, so of several
//! answers the freshest counts, and an old one says since when nobody leads. Those who ask at the same time
//! share the question.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::state::{RAFT_STATUS, RaftStatus};
use model::Role;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{Http, Target};
use crate::peers::Peers;

/// An answer is not late before.
const LATE: Duration = Duration::from_millis(400);
const AGAIN: Duration = Duration::from_millis(100);
/// For the answers of state servers.
const ASK: Duration = Duration::from_millis(300);
/// A leader that was heard so lately leads: no other answer is waited for.
const FRESH: Duration = Duration::from_millis(400);
/// A found answer is good for as long.
const SHARED: Duration = Duration::from_millis(50);

/// A leader, and when a quorum last followed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub leader: SocketAddr,
    pub heard: Instant,
}

/// What was found, and when.
type Found = (Instant, Option<Sight>);

/// Looks for the leader. Clones share what they find.
#[derive(Clone)]
pub(crate) struct Lookout {
    http: Http,
    peers: Arc<dyn Peers>,
    found: Arc<Mutex<Option<Found>>>,
}

impl Lookout {
    pub fn new(http: Http, peers: Arc<dyn Peers>) -> Self {
        Self { http, peers, found: Arc::default() }
    }

    /// Ends when nobody has led for so long, counted from now at the earliest.
    pub async fn nobody_leads_for(&self, limit: Duration) {
        let mut sign = Instant::now();
        let mut pause = LATE.min(limit / 2);
        loop {
            tokio::time::sleep(pause).await;
            let left = limit.saturating_sub(sign.elapsed());
            if let Some(seen) = self.look(left.clamp(SHARED, ASK)).await {
                sign = sign.max(seen.heard);
            }
            if sign.elapsed() >= limit {
                return;
            }
            pause = AGAIN.min(limit.saturating_sub(sign.elapsed()));
        }
    }

    /// Ends when another server than this one is found to lead; which.
    pub async fn another_leads(&self, than: SocketAddr) -> SocketAddr {
        tokio::time::sleep(LATE).await;
        loop {
            let seen = self.look(ASK).await.filter(|seen| seen.heard.elapsed() <= FRESH && seen.leader != than);
            if let Some(seen) = seen {
                return seen.leader;
            }
            tokio::time::sleep(LATE).await;
        }
    }

    async fn look(&self, within: Duration) -> Option<Sight> {
        let mut found = self.found.lock().await;
        if let Some((at, sight)) = &*found
            && at.elapsed() <= SHARED
        {
            return *sight;
        }
        let sight = self.ask(within).await;
        *found = Some((Instant::now(), sight));
        sight
    }

    async fn ask(&self, within: Duration) -> Option<Sight> {
        let mut asked = JoinSet::new();
        for peer in self.peers.peers(Role::State) {
            let http = self.http.clone();
            asked.spawn(async move {
                http.get_json::<RaftStatus>(Target::new(peer.addr, Role::State), RAFT_STATUS, within).await
            });
        }
        let mut freshest: Option<Sight> = None;
        while let Some(answer) = asked.join_next().await {
            let Some(sight) = answer.ok().and_then(Result::ok).and_then(|status| sight(&status)) else { continue };
            if freshest.is_none_or(|other| other.heard < sight.heard) {
                freshest = Some(sight);
            }
            if sight.heard.elapsed() <= FRESH {
                break;
            }
        }
        freshest
    }
}

fn sight(status: &RaftStatus) -> Option<Sight> {
    let leader = status.leader.as_ref()?.addr.parse().ok()?;
    let now = Instant::now();
    let heard = now.checked_sub(Duration::from_millis(status.last_contact_ms)).unwrap_or(now);
    Some(Sight { leader, heard })
}
