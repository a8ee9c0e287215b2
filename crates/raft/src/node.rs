//! One running node: the handle its owner holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, ForwardReason, ForwardToLeader, InitializeError, RaftError,
};
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, EntryPayload};
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{AcquireError, Semaphore, mpsc, oneshot, watch};

use crate::contract::{Config, Error, Machine, Network, Peer, PeerId, ProposeError, Role, Status, Verb};
use crate::lanes::Lanes;
use crate::log::{LogStore, lock};
use crate::machine::MachineAdapter;
use crate::net::SnapshotHead;
use crate::reads::ReadResult;
use crate::snapshot::SnapshotDir;
use crate::start;
use crate::status::{self, LastHeard};
use crate::suspect::Suspicion;
use crate::types::{Command, TypeConfig};

pub(crate) type Inner = openraft::Raft<TypeConfig, MachineAdapter>;
type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;
type WriteResult = Result<ClientWriteResponse<TypeConfig>, WriteError>;

/// Between two pieces of a snapshot from a peer.
const SNAPSHOT_PIECE_WAIT: Duration = Duration::from_secs(30);
const PROPOSAL_UNIT_BYTES: usize = 1 << 10;
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// One node of a raft group. See the crate's documentation.
pub struct Raft {
    config: Config,
    raft: Inner,
    log: Mutex<Option<LogStore>>,
    snapshots: Arc<SnapshotDir>,
    lanes: Lanes,
    heard: Arc<LastHeard>,
    status: watch::Receiver<Status>,
    reads: mpsc::Sender<oneshot::Sender<ReadResult>>,
    retry: Retry,
    proposals: Semaphore,
    /// In units of [`PROPOSAL_UNIT_BYTES`].
    proposal_room: Semaphore,
    suspecting: Arc<AtomicBool>,
    receiving: Semaphore,
    handle: Handle,
    running: Mutex<Option<(Runtime, std::thread::JoinHandle<()>)>>,
}

pub(crate) struct Parts {
    pub config: Config,
    pub raft: Inner,
    pub log: LogStore,
    pub snapshots: Arc<SnapshotDir>,
    pub lanes: Lanes,
    pub heard: Arc<LastHeard>,
    pub status: watch::Receiver<Status>,
    pub reads: mpsc::Sender<oneshot::Sender<ReadResult>>,
    pub retry: Retry,
    pub runtime: Runtime,
    pub writer: std::thread::JoinHandle<()>,
}

/// One attempt: an answer, or a refusal that is worth another attempt.
pub(crate) enum Outcome<T> {
    Done(Result<T, ProposeError>),
    Again(ProposeError),
}

/// A new leader refuses writes until a quorum has confirmed it (`LeaseExpired`), a leader that hands
/// over refuses them for a moment: both pass in milliseconds, so callers never see them.
#[derive(Clone, Copy)]
pub(crate) struct Retry {
    pub patience: Duration,
}

impl Retry {
    pub async fn run<T, F>(self, mut attempt: impl FnMut() -> F) -> Result<T, ProposeError>
    where
        F: Future<Output = Outcome<T>>,
    {
        let until = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(1);
        loop {
            match attempt().await {
                Outcome::Done(result) => return result,
                Outcome::Again(error) if Instant::now() + pause > until => return Err(error),
                Outcome::Again(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(32));
        }
    }
}

pub(crate) fn forwarded(to: ForwardToLeader<TypeConfig>) -> ProposeError {
    ProposeError::NotLeader { leader: to.leader_node }
}

fn stopped(e: impl Display) -> Error {
    Error::Stopped(e.to_string())
}

fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Malformed(e.to_string()))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(stopped)
}

impl Raft {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            proposals: Semaphore::new(parts.config.proposals_max),
            proposal_room: Semaphore::new(parts.config.proposal_bytes_max / PROPOSAL_UNIT_BYTES + 1),
            suspecting: Arc::default(),
            receiving: Semaphore::new(1),
            config: parts.config,
            raft: parts.raft,
            log: Mutex::new(Some(parts.log)),
            snapshots: parts.snapshots,
            lanes: parts.lanes,
            heard: parts.heard,
            status: parts.status,
            reads: parts.reads,
            retry: parts.retry,
            handle: parts.runtime.handle().clone(),
            running: Mutex::new(Some((parts.runtime, parts.writer))),
        }
    }

    /// Starts the node in its directory, with whatever is stored there: the newest snapshot is
    /// restored and the committed entries after it are applied before this returns.
    ///
    /// # Errors
    /// `Damaged`: stored data cannot be trusted, the id must not be used again. `WrongId`,
    /// `Settings`: the caller's mistake. `Storage`: may pass, try again.
    pub async fn start(config: Config, machine: Arc<dyn Machine>, network: Arc<dyn Network>) -> Result<Self, Error> {
        start::start(config, machine, network).await
    }

    /// The node's own threads, for what must not wait behind the owner's load: the listener for
    /// calls from peers belongs there.
    pub fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Answers a call made by another node's [`Network::call`].
    ///
    /// # Errors
    /// `Malformed`: the body is not such a call. `StreamReplaced`: the sender has moved on.
    /// `Stopped`: this node has ended.
    pub async fn handle(&self, verb: Verb, body: Bytes) -> Result<Bytes, Error> {
        match verb {
            Verb::Append => {
                let (answer, heard) = self.lanes.append(body).await?;
                if heard {
                    self.heard.touch();
                }
                Ok(answer)
            }
            Verb::Vote => to_json(&self.raft.vote(json(&body)?).await.map_err(stopped)?),
            Verb::PreVote => to_json(&self.raft.pre_vote(json(&body)?).await.map_err(stopped)?),
            Verb::Transfer => {
                let done = self.raft.handle_transfer_leader(json(&body)?).await;
                to_json(&done.map_err(stopped)?)
            }
        }
    }

    /// Receives a snapshot sent by another node's [`Network::send_snapshot`]: `body` is the file.
    /// Returns once it is checked, durable and restored.
    ///
    /// # Errors
    /// `Malformed`: cut short, too large or not what was written. `SnapshotBusy`: one at a time.
    pub async fn handle_snapshot<S, E>(&self, header: Bytes, body: S) -> Result<Bytes, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display,
    {
        let head: SnapshotHead = json(&header)?;
        let _one = self.receiving.try_acquire().map_err(|_| Error::SnapshotBusy)?;
        let file = self.snapshots.temporary();
        self.receive(file.path(), body).await?;
        let received = file.clone();
        let meta = tokio::task::spawn_blocking(move || received.verify())
            .await
            .map_err(stopped)?
            .map_err(|e| Error::Malformed(e.to_string()))?;
        if meta.last_log_id != head.last_log_id {
            return Err(Error::Malformed("the snapshot is not the one announced".into()));
        }
        let snapshot = openraft::Snapshot { meta, snapshot: file };
        let done = self.raft.install_full_snapshot(head.vote, snapshot).await.map_err(stopped)?;
        self.heard.touch();
        to_json(&done)
    }

    async fn receive<S, E>(&self, path: &std::path::Path, body: S) -> Result<(), Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display,
    {
        let file = tokio::fs::File::create(path).await.map_err(Error::Storage)?;
        let mut out = tokio::io::BufWriter::with_capacity(256 << 10, file);
        let (mut body, mut total) = (std::pin::pin!(body), 0u64);
        loop {
            let piece = tokio::time::timeout(SNAPSHOT_PIECE_WAIT, body.next());
            let Some(piece) = piece.await.map_err(|_| Error::Timeout)? else { break };
            let piece = piece.map_err(|e| Error::Malformed(e.to_string()))?;
            total += piece.len() as u64;
            if total > self.config.snapshot_bytes_max {
                return Err(Error::Malformed("the snapshot is larger than allowed".into()));
            }
            out.write_all(&piece).await.map_err(Error::Storage)?;
        }
        out.flush().await.map_err(Error::Storage)?;
        out.get_ref().sync_all().await.map_err(Error::Storage)
    }

    /// Proposes one command and waits until it is committed and applied here: its index and the
    /// machine's reply. Dropping the future does not take the command back.
    ///
    /// # Errors
    /// `NotLeader`, `Unavailable`, `TooLarge`: nothing was written. `Unknown`: it may yet commit.
    pub async fn propose(&self, command: Bytes) -> Result<(u64, Bytes), ProposeError> {
        let (bytes, limit) = (command.len(), self.config.command_bytes_max);
        if bytes > limit {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        let until = tokio::time::Instant::now() + self.config.propose_timeout;
        let room = u32::try_from(bytes / PROPOSAL_UNIT_BYTES + 1).expect("commands are below 1 GiB");
        let admitted = async {
            let place = self.proposals.acquire().await?;
            Ok::<_, AcquireError>((place, self.proposal_room.acquire_many(room).await?))
        };
        let _place = match tokio::time::timeout_at(until, admitted).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(ProposeError::Unavailable("raft has stopped".into())),
            Err(_) => return Err(ProposeError::Unavailable("too many proposals".into())),
        };
        let attempts = self.retry.run(|| self.write(Command(command.clone())));
        match tokio::time::timeout_at(until, attempts).await {
            Ok(result) => result,
            Err(_) => Err(ProposeError::Unknown("not committed in time".into())),
        }
    }

    async fn write(&self, command: Command) -> Outcome<(u64, Bytes)> {
        // Asked before: a node that ends meanwhile may have taken the command.
        let stopped = self.status.borrow().role == Role::Stopped;
        match self.raft.client_write(command).await {
            Ok(done) => Outcome::Done(Ok((done.log_id.index, done.data.0))),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                let again = to.reason != ForwardReason::NotLeader;
                let error = forwarded(to);
                if again { Outcome::Again(error) } else { Outcome::Done(Err(error)) }
            }
            Err(RaftError::APIError(e)) => Outcome::Done(Err(ProposeError::Unknown(e.to_string()))),
            Err(RaftError::Fatal(e)) if stopped => Outcome::Done(Err(ProposeError::Unavailable(e.to_string()))),
            // Whether the core had taken the command before it ended is not known.
            Err(RaftError::Fatal(e)) => Outcome::Done(Err(ProposeError::Unknown(e.to_string()))),
        }
    }

    /// An index such that whoever has applied it sees every command answered before this call.
    /// Leader only; confirmed by a quorum in one round that concurrent callers share.
    ///
    /// # Errors
    /// `NotLeader`, or `Unavailable` when no quorum answers.
    pub async fn read_index(&self) -> Result<u64, ProposeError> {
        let gone = || ProposeError::Unavailable("raft has stopped".into());
        let (caller, answer) = oneshot::channel();
        self.reads.try_send(caller).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => ProposeError::Unavailable("too many reads are waiting".into()),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())?
    }

    /// What the node knows; changes of role and leader come at once, indexes at a gentle pace.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What the node knows now; what [`Raft::status`] publishes may be as old as the last change.
    pub fn now(&self) -> Status {
        status::of(&self.raft.metrics().borrow_watched())
    }

    /// How long ago a quorum was with the leader, as far as this node knows; none before it ever was. Asks
    /// nobody: of a leader that is cut off it grows.
    pub fn contact(&self) -> Option<Duration> {
        status::contact(&self.raft.metrics().borrow_watched(), &self.heard)
    }

    /// Founds the group. Exactly one of the peers calls this, once.
    ///
    /// # Errors
    /// `NotInitializable` when there is a log already, or this node is not among them.
    pub async fn initialize(&self, peers: Vec<Peer>) -> Result<(), Error> {
        let members: BTreeMap<PeerId, Peer> = peers.into_iter().map(|p| (p.id, p)).collect();
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(e))) => Err(Error::NotInitializable(e.to_string())),
            Err(RaftError::APIError(InitializeError::NotInMembers(e))) => Err(Error::NotInitializable(e.to_string())),
            Err(RaftError::Fatal(e)) => Err(stopped(e)),
        }
    }

    /// Adds a peer that receives the log but does not vote; returns when that is committed, which
    /// may be before it has caught up (see [`Status::matched`]).
    pub async fn add_learner(&self, peer: Peer) -> Result<u64, Error> {
        let (id, peer) = (peer.id, &peer);
        self.change(|| self.raft.add_learner(id, peer.clone(), false)).await
    }

    /// Makes exactly these peers the voters; each must be a learner or voter already. Former voters
    /// leave the group.
    pub async fn change_voters(&self, voters: BTreeSet<PeerId>) -> Result<u64, Error> {
        let voters = &voters;
        self.change(|| self.raft.change_membership(voters.clone(), false)).await
    }

    /// Removes a peer, voter or learner. A leader that removes itself hands over first.
    pub async fn remove(&self, id: PeerId) -> Result<u64, Error> {
        let one = BTreeSet::from([id]);
        let voter = self.status.borrow().voters.iter().any(|p| p.id == id);
        let members: ChangeMembers<PeerId, Peer> =
            if voter { ChangeMembers::RemoveVoters(one) } else { ChangeMembers::RemoveNodes(one) };
        let members = &members;
        self.change(|| self.raft.change_membership(members.clone(), false)).await
    }

    /// Records a member's new name or address.
    pub async fn set_peer(&self, peer: Peer) -> Result<u64, Error> {
        let nodes = &BTreeMap::from([(peer.id, peer)]);
        let change = || self.raft.change_membership(ChangeMembers::SetNodes(nodes.clone()), true);
        self.change(change).await
    }

    async fn change<F>(&self, attempt: impl Fn() -> F) -> Result<u64, Error>
    where
        F: Future<Output = WriteResult>,
    {
        let until = Instant::now() + self.retry.patience;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done.log_id.index),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                    if to.reason == ForwardReason::NotLeader || Instant::now() > until {
                        return Err(Error::NotLeader { leader: to.leader_node });
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // The change before this one is still being committed, or this leader's own first entry.
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                ))) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(RaftError::APIError(e)) => return Err(Error::Membership(e.to_string())),
                Err(RaftError::Fatal(e)) => return Err(stopped(e)),
            }
        }
    }

    /// Hands leadership to a voter and waits until this node sees it lead.
    ///
    /// # Errors
    /// `NotLeader`, or `Timeout` when it did not take over.
    pub async fn transfer_leadership(&self, to: PeerId) -> Result<(), Error> {
        let mut status = self.status();
        let now = status.borrow().clone();
        if now.is_leader() && to == self.config.me.id {
            return Ok(());
        }
        if !now.is_leader() {
            return Err(Error::NotLeader { leader: now.leader });
        }
        if !now.voters.iter().any(|p| p.id == to) {
            return Err(Error::Membership(format!("{to} is not a voter")));
        }
        self.raft.trigger().transfer_leader(to).await.map_err(stopped)?;
        let led = status.wait_for(|s| s.leader.as_ref().is_some_and(|l| l.id == to));
        match tokio::time::timeout(self.config.election_max * 3, led).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped("raft ended")),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Asks for an election now, by pre-vote: without effect while a leader is heard by a quorum.
    pub async fn campaign(&self) -> Result<(), Error> {
        self.raft.trigger().elect(true).await.map_err(stopped)
    }

    /// To be called when the leader is known to be gone: its process has ended, say. Campaigns at once,
    /// instead of waiting for the election timeout; voters take turns by id. It wins if a quorum has come
    /// to the same conclusion. Without effect when another leads by now.
    pub fn suspect_leader(&self, leader: PeerId) {
        let suspicion = Suspicion {
            raft: self.raft.clone(),
            me: self.config.me.id,
            status: self.status.clone(),
            heard: self.heard.clone(),
            patience: self.config.election_max,
            running: self.suspecting.clone(),
        };
        suspicion.start(&self.handle, leader);
    }

    /// Builds a snapshot now; returns when it was asked for.
    pub async fn snapshot(&self) -> Result<(), Error> {
        self.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// Commands of `from..to` that are applied and still in the log, in order, as many as fit in
    /// `bytes_max` but at least one if there is one. Entries without a command are skipped.
    ///
    /// # Errors
    /// `Compacted` when `from` lies before the log.
    pub async fn entries(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, Error> {
        let log = lock(&self.log).clone().ok_or_else(|| stopped("shut down"))?;
        let applied = self.raft.metrics().borrow_watched().last_applied.map_or(0, |id| id.index + 1);
        let (mut at, to) = (from, to.min(applied));
        loop {
            let entries = log.read(at, to, bytes_max).await.map_err(Error::Storage)?;
            if let (Some(purged), _) = log.bounds()
                && from <= purged.index
            {
                return Err(Error::Compacted { purged: purged.index });
            }
            let Some(last) = entries.last().map(|e| e.log_id.index) else { return Ok(Vec::new()) };
            let commands: Vec<_> = entries
                .into_iter()
                .filter_map(|e| match e.payload {
                    EntryPayload::Normal(command) => Some((e.log_id.index, command.0)),
                    _ => None,
                })
                .collect();
            if !commands.is_empty() {
                return Ok(commands);
            }
            at = last + 1;
        }
    }

    /// Ends the node and waits until its files are closed. Idempotent.
    pub async fn shutdown(&self) {
        self.proposals.close();
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "raft core did not end cleanly");
        }
        lock(&self.log).take();
        let Some((runtime, writer)) = lock(&self.running).take() else { return };
        let ended = tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(SHUTDOWN_WAIT);
            let until = Instant::now() + SHUTDOWN_WAIT;
            while !writer.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            writer.is_finished()
        });
        if !ended.await.unwrap_or(false) {
            tracing::warn!("raft log writer is still running after shutdown");
        }
    }
}

impl Drop for Raft {
    fn drop(&mut self) {
        if let Some((runtime, _)) = lock(&self.running).take() {
            runtime.shutdown_background();
        }
    }
}
