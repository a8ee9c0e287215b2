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

    /// How old the last sign of a leader must be for it to say that nobody has led for `limit`.
    fn believed_after(self, limit: Duration) -> Duration {
        if self == Self::Silence { limit.max(SILENCE) } else { limit }
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
        let (mut sign, mut look) = (Instant::now(), Look::Silence);
        let mut next = sign + LATE.min(limit / 2);
        // The servers have time for their answers until they would be given up.
        let mut until = limit;
        loop {
            tokio::time::sleep_until(next).await;
            let asked = Instant::now();
            let left = until.saturating_sub(sign.elapsed()).max(SHARED);
            // Somebody else's question may be under way: then what was found before counts.
            if let Ok(found) = tokio::time::timeout(left + SHARED, self.look(left.min(ASK))).await {
                look = found;
            }
            if let Some(seen) = look.leader() {
                sign = sign.max(seen.heard);
            }
            until = look.believed_after(limit);
            if sign.elapsed() >= until {
                return;
            }
            next = (asked + AGAIN).min(sign + until);
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
        let mut answers = Answers::default();
        while let Some(answer) = asked.join_next().await {
            answers.take(answer.ok());
            if answers.freshest.is_some_and(|sight| sight.heard.elapsed() <= FRESH) {
                break;
            }
        }
        answers.look()
    }
}

/// What came in of a question to all.
#[derive(Default)]
struct Answers {
    freshest: Option<Sight>,
    /// One answered, whatever it said.
    told: bool,
    late: bool,
}

impl Answers {
    fn take(&mut self, answer: Option<Result<RaftStatus, CallError>>) {
        match answer {
            Some(Ok(status)) => {
                self.told = true;
                let seen = sight(&status);
                if seen.is_some_and(|seen| self.freshest.is_none_or(|other| other.heard < seen.heard)) {
                    self.freshest = seen;
                }
            }
            Some(Err(CallError::Status { .. })) => self.told = true,
            Some(Err(CallError::Timeout { .. })) => self.late = true,
            Some(Err(_)) | None => {}
        }
    }

    fn look(self) -> Look {
        match self.freshest {
            Some(sight) => Look::Leader(sight),
            None if self.told || !self.late => Look::Nobody,
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

    const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn late() -> Result<RaftStatus, CallError> {
        Err(CallError::Timeout { addr: ADDR, within: ASK, sent: true })
    }

    fn gone() -> Result<RaftStatus, CallError> {
        Err(CallError::Connect { addr: ADDR, source: std::io::ErrorKind::ConnectionRefused.into() })
    }

    fn follower(last_contact_ms: Option<u64>) -> Result<RaftStatus, CallError> {
        let leader = last_contact_ms.map(|_| api::state::RaftPeer { addr: ADDR.to_string(), ..Default::default() });
        Ok(RaftStatus { leader, last_contact_ms: last_contact_ms.unwrap_or(0), ..Default::default() })
    }

    fn look(given: impl IntoIterator<Item = Result<RaftStatus, CallError>>) -> Look {
        let mut answers = Answers::default();
        given.into_iter().for_each(|answer| answers.take(Some(answer)));
        answers.look()
    }

    #[test]
    fn nobody_leads_when_one_says_so_or_none_is_there_and_silence_is_something_else() {
        assert_eq!(look([gone(), gone(), gone()]), Look::Nobody);
        assert_eq!(look([]), Look::Nobody);
        assert_eq!(look([follower(None), late(), late()]), Look::Nobody);
        assert_eq!(look([late(), late(), late()]), Look::Silence);
        assert_eq!(look([gone(), late(), gone()]), Look::Silence);
        let seen = look([follower(Some(5_000)), follower(None), follower(Some(100)), late()]).leader().unwrap();
        assert!(seen.heard.elapsed() < Duration::from_secs(4), "the freshest counts");
    }

    #[test]
    fn silence_is_believed_later_than_an_answer() {
        let limit = Duration::from_millis(800);
        assert_eq!(Look::Nobody.believed_after(limit), limit);
        assert_eq!(look([follower(Some(1))]).believed_after(limit), limit);
        assert_eq!(Look::Silence.believed_after(limit), SILENCE);
        assert_eq!(Look::Silence.believed_after(SILENCE * 2), SILENCE * 2);
    }
}
