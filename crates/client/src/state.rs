//! How does a service get a command into the log, and a read index out of it?
//!
//! Any state server takes a command and hands it to the leader; going to the leader directly saves a
//! hop, so the last known one is tried first. A command with a request id is tried again until the
//! deadline, whatever happened to the answer; one without is tried again only while it surely did not
//! reach anybody.
//!
//! A server that is frozen or cut off leaves a call without an answer. So while one is late, the others are
//! asked who leads ([`crate::sight`]): if that is another, what may be tried again is tried there at once; if
//! it has been nobody for as long as the caller's [`Patience`] lasts, the caller is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fsm::command::{Envelope, LeaseFence, RequestId};
use fsm::{Command, Refusal, Reply};
use model::{Index, Role};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::clock;
use crate::error::{CallError, Outcome};
use crate::http::{Call, Http, Target};
use crate::peers::Peers;
use crate::sight::Lookout;

/// Longest time for one attempt; the whole has the caller's deadline.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Another attempt that has less time than this would rather leave unknown what is known not to have happened.
const ATTEMPT_MIN: Duration = Duration::from_millis(50);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// A command did not come back with a reply.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// It was applied to the log and said no. Nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Surely nothing happened: no state server took it in time.
    #[error("no leader took the command in time")]
    Unavailable(#[source] Option<CallError>),
    /// It may have happened.
    #[error("whether the command took effect is not known")]
    Unknown(#[source] CallError),
    /// It can never succeed as it is.
    #[error("the command was not accepted")]
    Rejected(#[source] CallError),
}

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub within: Duration,
    /// While nobody leads; longer when no server says so, see `sight`.
    pub leaderless: Duration,
}

impl From<Duration> for Patience {
    fn from(within: Duration) -> Self {
        Self { within, leaderless: within }
    }
}

/// Caller of the state servers. Clones share hints.
#[derive(Clone)]
pub struct StateClient {
    http: Http,
    peers: Arc<dyn Peers>,
    role: Role,
    lookout: Lookout,
    shared: Arc<Shared>,
}

/// What became of the attempts at one call.
#[derive(Default)]
struct Tried {
    last: Option<CallError>,
    /// One attempt of which nothing is known makes the whole unknown, whatever the others said.
    unknown: Option<CallError>,
    /// Where an attempt is under way.
    flying: Option<SocketAddr>,
}

impl Tried {
    fn outcome(self, within: Duration) -> ProposeError {
        let flying = self.flying.map(|addr| CallError::Timeout { addr, within, sent: true });
        self.unknown.or(flying).map_or(ProposeError::Unavailable(self.last), ProposeError::Unknown)
    }
}

#[derive(Default)]
struct Shared {
    leader: ArcSwapOption<SocketAddr>,
    /// Held by the question that is on its way.
    asking: Mutex<()>,
    /// Who shares the next question.
    next: std::sync::Mutex<Option<watch::Receiver<Option<Index>>>>,
}

impl StateClient {
    pub fn new(http: Http, peers: Arc<dyn Peers>, role: Role) -> Self {
        let lookout = Lookout::new(http.clone(), Arc::clone(&peers));
        Self { http, peers, role, lookout, shared: Arc::default() }
    }

    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Proposes a command under a fresh request id.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(
        &self,
        command: Command,
        lease: Option<LeaseFence>,
        patience: impl Into<Patience>,
    ) -> Result<(Index, Reply), ProposeError> {
        let envelope =
            Envelope { request: Some(new_request_id()), proposer: self.role, lease, now: clock::unix_nanos(), command };
        self.propose_envelope(&envelope, patience).await
    }

    /// Proposes an envelope as it is; tried again only if it has a request id.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose_envelope(
        &self,
        envelope: &Envelope,
        patience: impl Into<Patience>,
    ) -> Result<(Index, Reply), ProposeError> {
        let proposed: api::state::Proposed = self
            .at_leader(envelope.request.is_some(), patience.into(), |attempt| {
                Call::post(api::state::PROPOSE, attempt).json(envelope)
            })
            .await?;
        match proposed.reply {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok((proposed.index, reply)),
        }
    }

    /// Tells the leader that the caller goes on holding its lease. The answer is how old the leader's
    /// knowledge is that it leads.
    ///
    /// # Errors
    /// [`ProposeError::Rejected`] when the lease is another's or free, [`ProposeError::Unavailable`] when no
    /// leader took it.
    pub async fn renew_lease(
        &self,
        renewal: &api::state::RenewLease,
        within: Duration,
    ) -> Result<Duration, ProposeError> {
        let renewed: api::state::RaftContact =
            self.at_leader(true, within.into(), |attempt| Call::post(api::state::LEASE, attempt).json(renewal)).await?;
        Ok(Duration::from_millis(renewed.age_ms))
    }

    /// An index from which on a local replica may answer linearizable reads. Callers that ask while a
    /// question is on its way share the next one: an answer never stems from before its question.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`] when there is no leader in time.
    pub async fn read_index(&self, patience: impl Into<Patience>) -> Result<Index, ProposeError> {
        let Patience { within, leaderless } = patience.into();
        if leaderless >= within {
            return self.read_index_within(within).await;
        }
        tokio::select! {
            index = self.read_index_within(within) => index,
            () = self.lookout.nobody_leads_for(leaderless) => Err(ProposeError::Unavailable(None)),
        }
    }

    async fn read_index_within(&self, within: Duration) -> Result<Index, ProposeError> {
        let deadline = Instant::now() + within;
        loop {
            let (sender, mut shared) = self.join_read();
            if let Some(sender) = sender {
                let asking = tokio::time::timeout_at(deadline, self.shared.asking.lock()).await;
                let Ok(_asking) = asking else { return Err(ProposeError::Unavailable(None)) };
                // From here on it is on its way: those who come now wait for the next one.
                self.lock_next().take();
                let index = self.ask_read_index(deadline.saturating_duration_since(Instant::now())).await?;
                sender.send_replace(Some(index));
                return Ok(index);
            }
            match tokio::time::timeout_at(deadline, shared.wait_for(Option::is_some)).await {
                Ok(Ok(index)) => return Ok(index.unwrap_or_default()),
                // The one who asked gave up or failed: ask oneself.
                Ok(Err(_)) => {}
                Err(_) => return Err(ProposeError::Unavailable(None)),
            }
        }
    }

    /// Joins the next question, or becomes the one who asks it.
    fn join_read(&self) -> (Option<watch::Sender<Option<Index>>>, watch::Receiver<Option<Index>>) {
        let mut next = self.lock_next();
        if let Some(waiting) = next.as_ref().filter(|r| r.has_changed().is_ok()) {
            return (None, waiting.clone());
        }
        let (sender, receiver) = watch::channel(None);
        *next = Some(receiver.clone());
        (Some(sender), receiver)
    }

    fn lock_next(&self) -> std::sync::MutexGuard<'_, Option<watch::Receiver<Option<Index>>>> {
        self.shared.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn ask_read_index(&self, within: Duration) -> Result<Index, ProposeError> {
        let asked = self.at_leader(true, within.into(), |attempt| Ok(Call::get(api::state::READ_INDEX, attempt))).await;
        match asked {
            Ok(api::state::ReadIndex { index }) => Ok(index),
            // A question has no effect that could be unknown: it has no answer.
            Err(ProposeError::Unknown(error)) => Err(ProposeError::Unavailable(Some(error))),
            Err(error) => Err(error),
        }
    }

    /// Sends one call to the leader, wherever that is.
    async fn at_leader<T: serde::de::DeserializeOwned>(
        &self,
        repeatable: bool,
        patience: Patience,
        call: impl Fn(Duration) -> Result<Call, CallError>,
    ) -> Result<T, ProposeError> {
        let Patience { within, leaderless } = patience;
        let mut tried = Tried::default();
        if leaderless >= within {
            return self.attempts(repeatable, within, &mut tried, call).await;
        }
        let done = tokio::select! {
            done = self.attempts(repeatable, within, &mut tried, call) => Some(done),
            () = self.lookout.nobody_leads_for(leaderless) => None,
        };
        done.unwrap_or_else(|| Err(tried.outcome(leaderless)))
    }

    async fn attempts<T: serde::de::DeserializeOwned>(
        &self,
        repeatable: bool,
        within: Duration,
        tried: &mut Tried,
        call: impl Fn(Duration) -> Result<Call, CallError>,
    ) -> Result<T, ProposeError> {
        let deadline = Instant::now() + within;
        let mut backoff = BACKOFF_FIRST;
        let mut turn = usize::try_from(rand::random::<u32>()).unwrap_or(0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let surely_not_done = tried.last.is_some() && tried.unknown.is_none();
            if left.is_zero() || left < ATTEMPT_MIN && surely_not_done {
                return Err(std::mem::take(tried).outcome(within));
            }
            if let Some(addr) = self.pick(turn) {
                let call = call(left.min(ATTEMPT)).map_err(ProposeError::Rejected)?;
                tried.flying = Some(addr);
                let reply = self.attempt(addr, call, repeatable).await;
                tried.flying = None;
                match reply {
                    Ok(reply) => {
                        self.note_leader(&reply.headers);
                        return serde_json::from_slice(&reply.body)
                            .map_err(|source| ProposeError::Unknown(CallError::Decode { addr, source }));
                    }
                    Err(error) => match effect(&error) {
                        Outcome::Refused => return Err(ProposeError::Rejected(error)),
                        Outcome::Unknown if !repeatable => return Err(ProposeError::Unknown(error)),
                        Outcome::Unknown => tried.unknown = Some(error),
                        Outcome::NotSent => tried.last = Some(error),
                    },
                }
            }
            turn = turn.wrapping_add(1);
            tokio::time::sleep_until((Instant::now() + jittered(backoff)).min(deadline)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One attempt, given up when its answer is late and another server turns out to lead.
    async fn attempt(&self, addr: SocketAddr, call: Call, repeatable: bool) -> Result<crate::http::Reply, CallError> {
        let target = Target::new(addr, Role::State);
        let began = Instant::now();
        let another = async {
            match repeatable {
                true => self.lookout.another_leads(addr).await,
                false => std::future::pending().await,
            }
        };
        let reply = tokio::select! {
            reply = self.http.call(&target, call) => reply,
            leader = another => {
                self.shared.leader.store(Some(Arc::new(leader)));
                return Err(CallError::Timeout { addr, within: began.elapsed(), sent: true });
            }
        };
        if reply.is_err() {
            self.forget_leader(addr);
        }
        reply
    }

    fn pick(&self, turn: usize) -> Option<SocketAddr> {
        if let Some(addr) = self.shared.leader.load_full() {
            return Some(*addr);
        }
        let peers = self.peers.peers(Role::State);
        peers.get(turn % peers.len().max(1)).map(|p| p.addr)
    }

    fn note_leader(&self, headers: &http::HeaderMap) {
        if let Some(leader) = leader_named(headers)
            && self.shared.leader.load().as_deref() != Some(&leader)
        {
            self.shared.leader.store(Some(Arc::new(leader)));
        }
    }

    fn forget_leader(&self, addr: SocketAddr) {
        if self.shared.leader.load().as_deref() == Some(&addr) {
            self.shared.leader.store(None);
        }
    }
}

/// What is known of a command whose call failed: an answer that says "not now" is as good as not sent, one
/// that says "not known" or comes from a broken handler is as bad as none.
fn effect(error: &CallError) -> Outcome {
    use api::Code::{Internal, NoLeader, NotReady, TooMany, UnknownOutcome, Unreachable};
    match (error.outcome(), api::Code::parse(error.code())) {
        (Outcome::Refused, Some(NoLeader | NotReady | TooMany)) => Outcome::NotSent,
        (Outcome::Refused, Some(UnknownOutcome | Unreachable | Internal)) => Outcome::Unknown,
        (outcome, _) => outcome,
    }
}

fn jittered(base: Duration) -> Duration {
    base.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// A name for a request made now.
pub fn new_request_id() -> RequestId {
    RequestId { at_ms: u64::try_from(clock::unix_nanos() / 1_000_000).unwrap_or(0), random: rand::random() }
}

/// A random UUID as rows use it.
pub fn new_uuid() -> String {
    let mut b = rand::random::<[u8; 16]>();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let n = u128::from_be_bytes(b);
    let (a, b2, c, d, e) = (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff, n >> 48 & 0xffff, n & 0xffff_ffff_ffff);
    format!("{a:08x}-{b2:04x}-{c:04x}-{d:04x}-{e:012x}")
}

/// Who leads, as the server knew that answered with these headers.
pub(crate) fn leader_named(headers: &http::HeaderMap) -> Option<SocketAddr> {
    headers.get(api::headers::LEADER)?.to_str().ok()?.parse().ok()
}
