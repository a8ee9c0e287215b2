//! What the owner of a raft node gives it and gets from it: peers, settings, the replicated
//! machine, the transport, errors and status.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Identity of one raft member. Never reused: a server that lost its data comes back under a new one.
pub type PeerId = u64;

/// One member of the group as it is written into the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub id: PeerId,
    pub name: String,
    /// `host:port` of the internal listener.
    pub addr: String,
}

/// Settings of one node. Times are wall times of this process; sizes are bytes.
#[derive(Debug, Clone)]
pub struct Config {
    pub me: Peer,
    /// Directory of this node alone: log, vote, snapshots.
    pub dir: PathBuf,
    pub heartbeat: Duration,
    /// A follower campaigns no earlier than this after the last word of its leader ...
    pub election_min: Duration,
    /// ... and no later than this and half a heartbeat, if heartbeats are long (`ticks.rs`).
    pub election_max: Duration,
    /// A snapshot is built once this many entries were committed since the last one.
    pub snapshot_after_entries: u64,
    /// Entries already in a snapshot that stay in the log for followers that lag a little.
    pub keep_entries_after_snapshot: u64,
    /// Largest command `propose` takes.
    pub command_bytes_max: usize,
    /// Commands proposed here and not yet answered; further ones wait.
    pub proposals_max: usize,
    /// Bytes of commands proposed here and not yet answered; further ones wait.
    pub proposal_bytes_max: usize,
    /// How long `propose` waits before it reports an unknown outcome.
    pub propose_timeout: Duration,
    /// Bytes of recent entries kept in memory.
    pub recent_bytes_max: usize,
    /// Bytes of commands in one append call to a peer (at least one entry is always sent).
    pub append_bytes_max: usize,
    /// Append calls to one peer that may be on their way at once.
    pub pipeline_depth: usize,
    /// How long what is committed waits for entries to be told with (`ride.rs`).
    pub commit_patience: Duration,
    /// Deadline of one append call.
    pub append_timeout: Duration,
    /// Deadline of sending and installing one snapshot.
    pub snapshot_timeout: Duration,
    /// Largest snapshot accepted from a peer.
    pub snapshot_bytes_max: u64,
    /// Threads of the node's own runtime.
    pub threads: usize,
}

impl Config {
    /// Settings for production; a test shortens what it needs shorter.
    pub fn new(me: Peer, dir: PathBuf) -> Self {
        Self {
            me,
            dir,
            // A whole number of slots of the timer wheel.
            heartbeat: Duration::from_millis(256),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_secs(1),
            snapshot_after_entries: 8_192,
            keep_entries_after_snapshot: 4_096,
            command_bytes_max: 16 << 20,
            proposals_max: 4_096,
            proposal_bytes_max: 64 << 20,
            propose_timeout: Duration::from_secs(10),
            recent_bytes_max: 8 << 20,
            append_bytes_max: 2 << 20,
            pipeline_depth: 4,
            commit_patience: Duration::from_millis(10),
            append_timeout: Duration::from_secs(2),
            snapshot_timeout: Duration::from_secs(300),
            snapshot_bytes_max: 16 << 30,
            threads: 1,
        }
    }

    /// The largest body of a call between peers, snapshots aside: what a listener must let pass.
    pub fn call_bytes_max(&self) -> usize {
        self.append_bytes_max.max(self.command_bytes_max) + (64 << 10)
    }
}

/// A snapshot frozen in memory, to be written later and elsewhere.
pub type Frozen = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The replicated state machine. Called from one thread at a time, except that a [`Frozen`] is
/// written while later entries are applied.
pub trait Machine: Send + Sync + 'static {
    /// Applies committed commands in log order; one reply per command, in the same order.
    fn apply(&self, batch: Vec<(u64, Bytes)>) -> Vec<Bytes>;

    /// Everything up to `index` is applied, entries without a command included. Called after
    /// `apply`/`restore` and before the replies of these commands are handed out.
    fn applied(&self, index: u64);

    /// A cheap, consistent view of the state now. Its writer runs on a blocking thread.
    fn freeze(&self) -> Frozen;

    /// Replaces the whole state by a snapshot that holds everything up to `index`. Every byte it
    /// reads has passed its checksum. On an error the old state may stay or go: the node ends.
    fn restore(&self, index: u64, r: &mut dyn Read) -> io::Result<()>;
}

/// The kinds of calls between peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Append,
    Vote,
    PreVote,
    Transfer,
}

impl Verb {
    pub const ALL: [Verb; 4] = [Verb::Append, Verb::Vote, Verb::PreVote, Verb::Transfer];

    /// The name in a path or a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Append => "append",
            Verb::Vote => "vote",
            Verb::PreVote => "pre_vote",
            Verb::Transfer => "transfer",
        }
    }
}

/// Why a call to a peer gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not connected, or refused: openraft backs off before it tries again.
    #[error("peer is unreachable: {0}")]
    Unreachable(String),
    #[error("peer did not answer in time")]
    Timeout,
    /// The peer answered with an error.
    #[error("peer refused: {0}")]
    Remote(String),
}

/// Carries calls to peers. Calls to one peer may overtake each other; the receiver restores their
/// order. The body of a call arrives at the peer's [`crate::Raft::handle`], a snapshot at
/// [`crate::Raft::handle_snapshot`], and their answers come back as they are.
///
/// The futures are polled on the node's own runtime.
pub trait Network: Send + Sync + 'static {
    fn call(
        &self,
        to: Peer,
        verb: Verb,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>>;

    fn send_snapshot(
        &self,
        to: Peer,
        header: Bytes,
        file: PathBuf,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>>;
}

/// Why a node did not start or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stored data is not what was written. The node must not vote on it.
    #[error("stored raft data is damaged: {what}")]
    Damaged { what: String },
    #[error("raft storage failed")]
    Storage(#[source] io::Error),
    #[error("the directory belongs to raft id {stored}, not {asked}")]
    WrongId { stored: PeerId, asked: PeerId },
    #[error("raft settings are invalid: {0}")]
    Settings(String),
    #[error("the call from a peer is malformed: {0}")]
    Malformed(String),
    /// A newer stream from the same peer took the place of this one, or too many are waiting.
    #[error("the append stream was replaced")]
    StreamReplaced,
    #[error("another snapshot is being received")]
    SnapshotBusy,
    #[error("entries up to {purged} are in the snapshot, no longer in the log")]
    Compacted { purged: u64 },
    /// The group has a log already, or this node is not among the peers given.
    #[error("the group cannot be initialized here: {0}")]
    NotInitializable(String),
    #[error("this node is not the leader")]
    NotLeader { leader: Option<Peer> },
    #[error("the membership change was refused: {0}")]
    Membership(String),
    #[error("no answer in time")]
    Timeout,
    /// The node has ended; start it again in place.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// Why a command or a read got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was written; ask the leader.
    #[error("this node is not the leader")]
    NotLeader { leader: Option<Peer> },
    /// Nothing was written; this node cannot serve now.
    #[error("raft cannot serve now: {0}")]
    Unavailable(String),
    /// The command may or may not be committed: ask again only with the same request id.
    #[error("the outcome of the command is unknown: {0}")]
    Unknown(String),
    #[error("the command has {bytes} bytes, the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    #[default]
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopped,
}

/// What this node knows about itself and its group. An index of zero means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub id: PeerId,
    pub role: Role,
    pub term: u64,
    pub leader: Option<Peer>,
    pub voters: Vec<Peer>,
    pub learners: Vec<Peer>,
    /// The log has at least the entry that founded the group.
    pub initialized: bool,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: u64,
    pub purged: u64,
    /// Leader only: the last entry each peer is known to hold.
    pub matched: BTreeMap<PeerId, u64>,
    /// Why the node ended, when it did.
    pub fault: Option<String>,
}

impl Status {
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}
