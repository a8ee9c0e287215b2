//! Does anybody lead, and who? Asked of all state servers at once, when an answer from one of them is late.
//!
//! A server that is frozen or cut off answers nothing, and one that was just cut off does not know it yet: it
//! still names its leader, or itself. What tells is how long ago a quorum was last heard, so of several
//! answers the freshest counts, and an old one says since when nobody leads. Those who ask at the same time
//! share the question.
//!
//! That nobody leads is said by a server that answers, or by all being gone. Silence of all says less: servers may be
//! busy, and so may we, who cannot take their answers. It is believed after [`SILENCE`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::state::{RAFT_STATUS, RaftStatus};
use model::Role;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::CallError;
use crate::http::{Http, Target};
use crate::peers::Peers;

/// An answer is not late before.
const LATE: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_millis(100);
/// For the answers of state servers.
const ASK: Duration = Duration::from_millis(300);
/// A leader that was heard so lately leads: no other answer is waited for.
const FRESH: Duration = Duration::from_millis(400);
/// A found answer is good for as long.
const SHARED: Duration = Duration::from_millis(50);
/// When no state server has answered for so long, nobody leads.
const SILENCE: Duration = Duration::from_secs(2);

/// A leader, and when a quorum last followed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub leader: SocketAddr,
    pub heard: Instant,
}

/// What the state servers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// One leads, or did.
    Leader(Sight),
    /// None of those who answered knows one; or none is there to ask.
    Nobody,
    Silence,
}

impl Look {
    fn leader(self) -> Option<Sight> {
        match self {
            Self::Leader(sight) => Some(sight),
            Self::Nobody | Self::Silence => None,
        }
    }

    /// Whether nobody has led for `limit`, when the last sign of a leader is so old.
    fn says_nobody(self, age: Duration, limit: Duration) -> bool {
        age >= if self == Self::Silence { limit.max(SILENCE) } else { limit }
    }
}

/// What was found, and when.
type Found = (Instant, Look);

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
        let mut next = sign + LATE.min(limit / 2);
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + AGAIN;
            let left = limit.saturating_sub(sign.elapsed());
            let look = self.look(left.clamp(SHARED, ASK)).await;
            if let Some(seen) = look.leader() {
                sign = sign.max(seen.heard);
            }
            if look.says_nobody(sign.elapsed(), limit) {
                return;
            }
            // The last one before the limit has the time until then for its answers.
            next = next.min((sign + limit).max(Instant::now()));
        }
    }

    /// Ends when another server than this one is found to lead; which.
    pub async fn another_leads(&self, than: SocketAddr) -> SocketAddr {
        tokio::time::sleep(LATE).await;
        loop {
            let seen =
                self.look(ASK).await.leader().filter(|seen| seen.heard.elapsed() <= FRESH && seen.leader != than);
            if let Some(seen) = seen {
                return seen.leader;
            }
            tokio::time::sleep(LATE).await;
        }
    }

    async fn look(&self, within: Duration) -> Look {
        let mut found = self.found.lock().await;
        if let Some((at, look)) = &*found
            && at.elapsed() <= SHARED
        {
            return *look;
        }
        let look = self.ask(within).await;
        *found = Some((Instant::now(), look));
        look
    }

    async fn ask(&self, within: Duration) -> Look {
        let mut asked = JoinSet::new();
        for peer in self.peers.peers(Role::State) {
            let http = self.http.clone();
            asked.spawn(async move {
                http.get_json::<RaftStatus>(Target::new(peer.addr, Role::State), RAFT_STATUS, within).await
            });
        }
        let mut freshest: Option<Sight> = None;
        let (mut told, mut late) = (false, false);
        while let Some(answer) = asked.join_next().await {
            let status = match answer {
                Ok(Ok(status)) => status,
                Ok(Err(error)) => {
                    late |= matches!(error, CallError::Timeout { .. });
                    told |= matches!(error, CallError::Status { .. });
                    continue;
                }
                Err(_) => continue,
            };
            told = true;
            let Some(sight) = sight(&status) else { continue };
            if freshest.is_none_or(|other| other.heard < sight.heard) {
                freshest = Some(sight);
            }
            if sight.heard.elapsed() <= FRESH {
                break;
            }
        }
        match freshest {
            Some(sight) => Look::Leader(sight),
            None if told || !late => Look::Nobody,
            None => Look::Silence,
        }
    }
}

fn sight(status: &RaftStatus) -> Option<Sight> {
    let leader = status.leader.as_ref()?.addr.parse().ok()?;
    let now = Instant::now();
    let heard = now.checked_sub(Duration::from_millis(status.last_contact_ms)).unwrap_or(now);
    Some(Sight { leader, heard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_believed_later_than_an_answer() {
        let limit = Duration::from_millis(850);
        let seen = |ago| Look::Leader(Sight { leader: ([127, 0, 0, 1], 1).into(), heard: Instant::now() - ago });
        for (look, ages) in [(seen(limit), [849, 850]), (Look::Nobody, [849, 850]), (Look::Silence, [1_999, 2_000])] {
            let says = ages.map(|age| look.says_nobody(Duration::from_millis(age), limit));
            assert_eq!(says, [false, true], "{look:?}");
        }
        assert!(!Look::Silence.says_nobody(Duration::from_secs(4), Duration::from_secs(5)));
    }
}
