//! How does a service keep its own copy of the state?
//!
//! ```text
//!   snapshot ──► State at index n ──► feed after n: line, line, line …
//!       ▲                                   │ gap, other epoch or hash, 410: the copy is void
//!       └───────────────────────────────────┘ connection broke: another server, same index
//! ```
//!
//! The leader has each line a round trip before the others. So who is answered by another server asks the
//! leader too, and follows it if it has a place; if not, it stays where it is, and asks again some time later. A
//! source that is alive, but does not bring what a state server told a reader is committed, is left for another.
//!
//! Invariants
//! * What [`Replica::state`] gives is the state of the cluster at one index, for the tables followed.
//! * Within one run its index never falls, except when the cluster itself was restored (another epoch).
//! * The observer sees every line once and in order, and is told when lines were skipped by a reset.
//!
//! Driven by one task, which begins anew from a snapshot if it panics. When no source can be reached the copy grows stale, [`Replica::contact_age`]
//! says how stale, and reads that need to be fresh fail at their read index.

mod hunger;

use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use fsm::{FeedLine, State, Table};
use futures::{FutureExt as _, TryStreamExt};
use model::{Index, Role};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use self::hunger::Hunger;
use crate::error::CallError;
use crate::http::{Http, Lines, Streaming, Target};
use crate::peers::{PeerAddr, Peers};
use crate::state::leader_named;

/// A feed is silent at most this long: the source sends a beat each second.
const SILENCE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(5);
/// How long a leader may take to answer while another server's feed is at hand.
const LEADER: Duration = Duration::from_secs(1);
/// Who follows another server than the leader asks for the leader after so long, and then ever less often.
const NEARER: Duration = Duration::from_secs(30);
const NEARER_MAX: Duration = Duration::from_secs(1_800);
const LINE_BYTES_MAX: usize = 64 << 20;
/// That nobody believes us is told at first, and then each so many tries.
const MISTRUSTS_TOLD: u32 = 60;
const RETRY: Duration = Duration::from_millis(100);
/// What comes this soon after the last lines became visible waits for company: each new view costs the
/// next writes a copy of what they touch.
const PACE: Duration = Duration::from_millis(1);
const LINES_AT_ONCE: usize = 256;

/// Is told of everything that changes, in the follower's task: be quick, never wait.
pub trait Observer: Send + Sync + 'static {
    /// The copy begins anew, from a snapshot; lines may have been missed.
    fn reset(&mut self, state: &Arc<State>);
    /// One line was applied; `state` is after it.
    fn line(&mut self, state: &State, line: &FeedLine);
    /// All lines at hand are applied, and `state` is what readers now get.
    fn settled(&mut self, _state: &Arc<State>) {}
}

/// For those who only read.
pub struct NoObserver;

impl Observer for NoObserver {
    fn reset(&mut self, _: &Arc<State>) {}
    fn line(&mut self, _: &State, _: &FeedLine) {}
}

/// The copy has not reached an index in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replica is at index {at}, not yet at {wanted}")]
pub struct NotReached {
    pub at: Index,
    pub wanted: Index,
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("no state server is known")]
    NoSource,
    #[error("snapshot cannot be read: {0}")]
    Snapshot(String),
    #[error("feed does not fit the copy: {0}")]
    Diverged(String),
    #[error("feed ended")]
    Ended,
    #[error("the leader is asked again")]
    Nearer,
    #[error("index {wanted} is committed and does not come")]
    Starved { wanted: Index },
    #[error("snapshot is of index {theirs}, the copy was at {ours} already")]
    Behind { theirs: Index, ours: Index },
    #[error("following the feed panicked")]
    Panicked,
}

impl FollowError {
    /// The copy cannot be brought up to date by going on.
    fn is_void(&self) -> bool {
        match self {
            Self::Diverged(_) | Self::Panicked => true,
            Self::Call(e) => e.code() == api::Code::Gone.as_str(),
            _ => false,
        }
    }
}

/// A copy of the state that keeps itself up to date. Clones share it.
#[derive(Clone)]
pub struct Replica(Arc<Shared>);

struct Shared {
    state: ArcSwap<State>,
    progress: watch::Sender<Progress>,
    contact: watch::Sender<Instant>,
    /// The highest index that a reader knew to be committed.
    wanted: watch::Sender<Index>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    index: Index,
    ready: bool,
}

impl Replica {
    /// Starts following `tables`.
    pub fn start(
        http: Http,
        peers: Arc<dyn Peers>,
        tables: Vec<Table>,
        observer: Box<dyn Observer>,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: ArcSwap::from_pointee(State::default()),
            progress: watch::Sender::default(),
            contact: watch::Sender::new(Instant::now()),
            wanted: watch::Sender::default(),
        });
        let follower = Follower {
            http,
            peers,
            tables: tables.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(","),
            all: Table::ALL.iter().all(|t| tables.contains(t)),
            observer,
            shared: Arc::clone(&shared),
            turn: usize::from(rand::random::<u16>()),
            left: None,
            nearer: NEARER,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follower.run() => {}
            }
        });
        Self(shared)
    }

    /// The copy as it is now.
    pub fn state(&self) -> Arc<State> {
        self.0.state.load_full()
    }

    pub fn index(&self) -> Index {
        self.0.progress.borrow().index
    }

    /// True once it holds a snapshot.
    pub fn is_ready(&self) -> bool {
        self.0.progress.borrow().ready
    }

    /// How long ago the source last gave a sign of life.
    pub fn contact_age(&self) -> Duration {
        self.0.contact.borrow().elapsed()
    }

    /// Waits until the copy has reached `index`, of which a state server said that it is committed: a source that
    /// does not bring it soon is left. Never for an index that somebody else names.
    ///
    /// # Errors
    /// [`NotReached`] when it has not within the time given.
    pub async fn committed(&self, index: Index, within: Duration) -> Result<Arc<State>, NotReached> {
        self.0.wanted.send_if_modified(|wanted| std::mem::replace(wanted, index.max(*wanted)) < index);
        self.reached(index, within).await
    }

    /// Waits until the copy has reached `index`.
    ///
    /// # Errors
    /// [`NotReached`] when it has not within the time given.
    pub async fn reached(&self, index: Index, within: Duration) -> Result<Arc<State>, NotReached> {
        let mut progress = self.0.progress.subscribe();
        let reached = tokio::time::timeout(within, progress.wait_for(|p| p.ready && p.index >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(self.state()),
            _ => Err(NotReached { at: self.index(), wanted: index }),
        }
    }

    /// Waits until the copy is past `index`; `None` when it is not within the time given.
    pub async fn past(&self, index: Index, within: Duration) -> Option<Arc<State>> {
        self.reached(index.next(), within).await.ok()
    }
}

struct Follower {
    http: Http,
    peers: Arc<dyn Peers>,
    tables: String,
    all: bool,
    observer: Box<dyn Observer>,
    shared: Arc<Shared>,
    turn: usize,
    /// The source that let its readers starve: not to be gone back to at once.
    left: Option<SocketAddr>,
    /// When the leader is asked for again, if it is not to be had now.
    nearer: Duration,
}

impl Follower {
    async fn run(mut self) {
        let mut state: Option<State> = None;
        let mut waits: u32 = 0;
        let mut mistrusts: u32 = 0;
        loop {
            let (began, mut nearer, left) = (Instant::now(), false, self.left);
            let result = std::panic::AssertUnwindSafe(self.follow(&mut state)).catch_unwind().await;
            if let Err(error) = result.unwrap_or(Err(FollowError::Panicked)) {
                nearer = matches!(error, FollowError::Nearer);
                if matches!(error, FollowError::Panicked) {
                    tracing::error!("following the feed panicked, the copy of the state begins anew");
                    state = None;
                } else if error.is_void() {
                    tracing::info!(error = %error, "copy of the state begins anew");
                    state = None;
                } else if let FollowError::Call(call) = &error
                    && let Some(why) = call.mistrust()
                {
                    mistrusts += 1;
                    if mistrusts % MISTRUSTS_TOLD == 1 {
                        tracing::warn!(error = %error, why, "no state server to follow: give this process a certificate of its cluster");
                    }
                } else if !matches!(error, FollowError::NoSource) {
                    tracing::debug!(error = %error, "feed broke, following another server");
                }
            }
            // One turn without it is enough: the others may be worse.
            self.left = self.left.filter(|addr| Some(*addr) != left);
            if !nearer {
                self.turn = self.turn.wrapping_add(1);
            }
            waits = if began.elapsed() > SILENCE { 0 } else { (waits + 1).min(4) };
            tokio::time::sleep(RETRY * waits).await;
        }
    }

    fn source(&self) -> Result<PeerAddr, FollowError> {
        let mut peers = self.peers.peers(Role::State);
        if peers.len() > 1 {
            peers.retain(|peer| Some(peer.addr) != self.left);
        }
        peers.get(self.turn % peers.len().max(1)).cloned().ok_or(FollowError::NoSource)
    }

    async fn follow(&mut self, state: &mut Option<State>) -> Result<(), FollowError> {
        let source = self.source()?;
        let target = Target::new(source.addr, Role::State);
        if state.is_none() {
            let fresh = self.bootstrap(&target).await?;
            self.check_no_step_back(&fresh)?;
            let shared = Arc::new(fresh.clone());
            *state = Some(fresh);
            self.observer.reset(&shared);
            self.publish(shared);
        }
        let Some(state) = state.as_mut() else { return Err(FollowError::Ended) };
        let mut path = format!(
            "{}?after={}&epoch={}&tables={}",
            api::state::FEED,
            state.index(),
            state.cluster().epoch,
            self.tables
        );
        if self.all {
            path.push_str("&hash=");
            path.push_str(&state.hash_text());
        }
        let opened = self.http.open_stream(&target, &path, CONNECT, SILENCE).await?;
        let (nearest, addr, again) = self.nearest(opened, source.addr, &path).await;
        let read = self.read_lines(state, &mut nearest.lines(LINE_BYTES_MAX), again).await;
        if matches!(read, Err(FollowError::Starved { .. })) {
            // Who waits still gets it from the next source; who does not any more wants nothing.
            self.shared.wanted.send_replace(Index(0));
            self.left = Some(addr);
        }
        read
    }

    /// The leader's feed, if it takes one more follower, or else the one that is open; whose it is; and when to look
    /// for the leader again, if it is not the leader's.
    async fn nearest(
        &mut self,
        opened: Streaming,
        source: SocketAddr,
        path: &str,
    ) -> (Streaming, SocketAddr, Option<Instant>) {
        let named = leader_named(opened.headers());
        let known = |addr: &SocketAddr| {
            self.left != Some(*addr) && self.peers.peers(Role::State).iter().any(|peer| peer.addr == *addr)
        };
        if let Some(leader) = named.filter(known) {
            let path = format!("{path}&led=true");
            match self.http.open_stream(Target::new(leader, Role::State), &path, LEADER, SILENCE).await {
                Ok(nearer) => {
                    self.nearer = NEARER;
                    return (nearer, leader, None);
                }
                Err(error) => {
                    tracing::debug!(error = %error, "the leader's feed is not to be had, following another's")
                }
            }
        }
        if named == Some(source) {
            return (opened, source, None);
        }
        let again = Instant::now() + self.nearer;
        self.nearer = (self.nearer * 2).min(NEARER_MAX);
        (opened, source, Some(again))
    }

    /// A server that lags must not take readers back in time; only another line of history may.
    fn check_no_step_back(&self, fresh: &State) -> Result<(), FollowError> {
        let old = self.shared.state.load();
        let (theirs, ours) = (fresh.index(), old.index());
        if theirs < ours && fresh.cluster().epoch == old.cluster().epoch {
            return Err(FollowError::Behind { theirs, ours });
        }
        Ok(())
    }

    async fn read_lines(
        &mut self,
        state: &mut State,
        lines: &mut Lines,
        again: Option<Instant>,
    ) -> Result<(), FollowError> {
        let mut published = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut hungry = Hunger::new(shared.wanted.subscribe());
        let mut unfinished = 0;
        loop {
            if again.is_some_and(|again| again <= Instant::now()) {
                return Err(FollowError::Nearer);
            }
            let first = tokio::select! {
                biased;
                line = lines.next() => line?,
                wanted = hungry.starved(state.index()) => {
                    // A long line is on its way, however slow.
                    if lines.unfinished() == unfinished {
                        return Err(FollowError::Starved { wanted });
                    }
                    unfinished = lines.unfinished();
                    hungry.fed();
                    continue;
                }
            };
            let Some(first) = first else { return Err(FollowError::Ended) };
            self.shared.contact.send_replace(Instant::now());
            if first.as_ref() == api::state::FEED_BEAT {
                continue;
            }
            unfinished = 0;
            hungry.fed();
            self.apply(state, &first)?;
            let more = self.apply_more(state, lines, published + PACE).await;
            // What was applied is shown, also when the feed broke behind it.
            let shared = Arc::new(state.clone());
            self.observer.settled(&shared);
            self.publish(shared);
            published = Instant::now();
            more?;
        }
    }

    /// All that has arrived, or comes before `until`, becomes visible at once; but no more than a few at a
    /// time.
    async fn apply_more(&mut self, state: &mut State, lines: &mut Lines, until: Instant) -> Result<(), FollowError> {
        for _ in 1..LINES_AT_ONCE {
            match self.next_soon(lines, until).await? {
                Some(line) if line.as_ref() != api::state::FEED_BEAT => self.apply(state, &line)?,
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }

    /// A line that is here, or comes before `until`.
    async fn next_soon(&self, lines: &mut Lines, until: Instant) -> Result<Option<Bytes>, FollowError> {
        if let Some(line) = lines.buffered()? {
            return Ok(Some(line));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        match tokio::time::timeout_at(until, lines.next()).await {
            Ok(Ok(Some(line))) => Ok(Some(line)),
            // Its end is found again when there is nothing to publish any more.
            Ok(Ok(None)) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    fn apply(&mut self, state: &mut State, line: &[u8]) -> Result<(), FollowError> {
        let line = state.follow(line).map_err(|e| FollowError::Diverged(e.to_string()))?;
        self.observer.line(state, &line);
        Ok(())
    }

    fn publish(&self, state: Arc<State>) {
        let index = state.index();
        self.shared.state.store(state);
        self.shared.progress.send_replace(Progress { index, ready: true });
    }

    async fn bootstrap(&self, source: &Target) -> Result<State, FollowError> {
        let path = format!("{}?tables={}", api::state::SNAPSHOT, self.tables);
        let stream = self.http.open_stream(source, &path, CONNECT, SILENCE * 4).await?.into_stream();
        let reader = StreamReader::new(Box::pin(stream.map_err(io::Error::other)));
        let bridge = SyncIoBridge::new(reader);
        tokio::task::spawn_blocking(move || fsm::read_snapshot(BufReader::new(bridge)).map_err(|e| e.to_string()))
            .await
            .map_err(|e| FollowError::Snapshot(e.to_string()))?
            .map_err(FollowError::Snapshot)
    }
}
