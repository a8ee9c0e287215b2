//! The raft log as openraft sees it: recent entries in memory, all of them on disk, one writer.
//!
//! ```text
//! openraft ── append ──▶ Recent (readable at once) ──▶ queue ──▶ writer thread ──▶ Ledger
//!    ▲                                                               │ one commit, one flush
//!    └──────────────── IOFlushed, in order ◀─────────────────────────┘
//! readers: Recent first, the Ledger for what has left it
//! ```
//!
//! Invariants: entries in `Recent` are contiguous and end at the last log id; an entry leaves it only
//! after it is durable; reads never return purged or truncated entries, whatever the ledger still
//! holds. Absent on purpose: any write outside the writer thread.
//!
//! Driven by openraft. When a write fails, openraft learns it from the callback and ends; the
//! node's status says so.

pub(crate) mod ledger;
pub(crate) mod vote;
pub(crate) mod writer;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use futures::Stream;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};

use self::ledger::{Ledger, Opened, RedbLedger, classify};
use self::vote::VoteFile;
use self::writer::{Op, QUEUE_LEN, Writer};
use crate::codec::entry_bytes;
use crate::contract::Error;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// The guarded value is a plain record: a panic elsewhere cannot leave it half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The end of the log, in memory.
pub(crate) struct Recent {
    purged: Option<LogId>,
    last: Option<LogId>,
    pub committed: Option<LogId>,
    vote: Option<Vote>,
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Grows with each truncation, so that a late report on entries since replaced is ignored.
    epoch: u64,
    durable: u64,
}

impl Recent {
    fn new(opened: Opened, vote: Option<Vote>, bytes_max: usize) -> Self {
        Self {
            purged: opened.purged,
            last: opened.last,
            committed: opened.committed,
            vote,
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
            epoch: 0,
            durable: opened.last.map_or(0, |id| id.index),
        }
    }

    pub fn durable(&mut self, epoch: u64, index: u64) {
        if epoch == self.epoch {
            self.durable = self.durable.max(index);
            self.shrink();
        }
    }

    pub fn durable_index(&self) -> u64 {
        self.durable
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max
            && let Some(first) = self.entries.front()
            && first.log_id.index <= self.durable
        {
            self.bytes -= entry_bytes(first);
            self.entries.pop_front();
        }
    }

    fn append(&mut self, entries: &[Entry]) -> u64 {
        for entry in entries {
            self.bytes += entry_bytes(entry);
            self.last = Some(entry.log_id);
            self.entries.push_back(entry.clone());
        }
        self.epoch
    }

    fn truncate(&mut self, keep: Option<LogId>) {
        if keep >= self.last {
            return;
        }
        let next = keep.map_or(0, |id| id.index + 1);
        while self.entries.back().is_some_and(|e| e.log_id.index >= next) {
            if let Some(gone) = self.entries.pop_back() {
                self.bytes -= entry_bytes(&gone);
            }
        }
        self.epoch += 1;
        self.durable = self.durable.min(next.saturating_sub(1));
        self.last = keep.max(self.purged);
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|e| e.log_id.index <= upto.index) {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes -= entry_bytes(&gone);
            }
        }
        self.purged = self.purged.max(Some(upto));
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
            self.durable = self.durable.max(upto.index);
        }
    }

    /// The part of the range that is in the log, and where memory takes over from the ledger.
    fn clamp(&self, from: u64, to: u64) -> (u64, u64, u64) {
        let from = from.max(self.purged.map_or(0, |id| id.index + 1));
        let to = to.min(self.last.map_or(0, |id| id.index + 1));
        let memory = self.entries.front().map_or(u64::MAX, |e| e.log_id.index);
        (from, to, memory)
    }

    fn slice(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.entries.front().map(|e| e.log_id.index) else { return Vec::new() };
        let (mut out, mut bytes) = (Vec::new(), 0);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        for entry in self.entries.iter().skip(skip) {
            if entry.log_id.index >= to {
                break;
            }
            bytes += entry_bytes(entry);
            if bytes > bytes_max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        out
    }
}

/// The log of one node. Clones share it; the writer thread ends when the last clone is gone.
#[derive(Clone)]
pub(crate) struct LogStore {
    recent: Arc<Mutex<Recent>>,
    ledger: Arc<dyn Ledger>,
    queue: mpsc::Sender<Op>,
    read_bytes_max: usize,
}

/// How much a log may hold in memory and hand out at once.
#[derive(Clone, Copy)]
pub(crate) struct LogLimits {
    pub recent_bytes_max: usize,
    pub read_bytes_max: usize,
}

impl LogStore {
    /// Opens the log in `dir`, reading and checking all of it.
    ///
    /// # Errors
    /// `Damaged` when log or vote are not what was written.
    pub fn open(dir: &Path, limits: LogLimits) -> Result<(Self, JoinHandle<()>), Error> {
        let (ledger, opened) = RedbLedger::open(dir)?;
        Self::with_ledger(dir, limits, Arc::new(ledger), opened)
    }

    pub fn with_ledger(
        dir: &Path,
        limits: LogLimits,
        ledger: Arc<dyn Ledger>,
        opened: Opened,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let votes = VoteFile::new(dir);
        let vote = votes.load().map_err(classify)?;
        let term = opened.last.map_or(0, |id| id.leader_id.term);
        if vote.map_or(0, |v| v.leader_id.term) < term {
            let what = format!("the vote is missing or older than the log's last term {term}");
            return Err(Error::Damaged { what });
        }
        let committed = opened.committed;
        let recent = Arc::new(Mutex::new(Recent::new(opened, vote, limits.recent_bytes_max)));
        let (queue, ops) = mpsc::channel(QUEUE_LEN);
        let writer = Writer { ledger: ledger.clone(), votes, recent: recent.clone(), failed: None, committed };
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run(ops))
            .map_err(Error::Storage)?;
        Ok((Self { recent, ledger, queue, read_bytes_max: limits.read_bytes_max }, thread))
    }

    /// The last purged and the last log id.
    pub fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let recent = lock(&self.recent);
        (recent.purged, recent.last)
    }

    async fn send(&self, op: Op) -> io::Result<()> {
        self.queue.send(op).await.map_err(|_| io::Error::other("the raft log writer has ended"))
    }

    /// Entries of `from..to` that the log holds, in order, at least one if there is one, no more
    /// than `bytes_max` bytes of them otherwise.
    pub async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (from, end) = {
            let recent = lock(&self.recent);
            let (from, to, memory) = recent.clamp(from, to);
            if from >= to {
                return Ok(Vec::new());
            }
            if from >= memory {
                return Ok(recent.slice(from, to, bytes_max));
            }
            // Entries that never made it to the ledger are all in memory; stop where it begins.
            (from, to.min(memory))
        };
        let ledger = self.ledger.clone();
        let stored = tokio::task::spawn_blocking(move || ledger.read(from, end, bytes_max))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))?;
        if !stored.is_empty() {
            return Ok(stored);
        }
        // Purged meanwhile: what is left begins in memory.
        let recent = lock(&self.recent);
        let (from, to, memory) = recent.clamp(end, to);
        Ok(recent.slice(from.max(memory), to, bytes_max))
    }

    async fn read_all(&self, mut from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let mut out = Vec::new();
        loop {
            let mut some = self.read(from, to, self.read_bytes_max).await?;
            let Some(last) = some.last() else { return Ok(out) };
            from = last.log_id.index + 1;
            out.append(&mut some);
        }
    }
}

fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(at) => at.saturating_add(1),
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = ends(&range);
        self.read_all(from, to).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = ends(&range);
        let chunks = futures::stream::try_unfold((self.clone(), from), move |(log, from)| async move {
            let some = log.read(from, to, log.read_bytes_max).await?;
            let Some(last) = some.last() else { return Ok::<_, io::Error>(None) };
            let next = last.log_id.index + 1;
            Ok(Some((futures::stream::iter(some.into_iter().map(Ok)), (log, next))))
        });
        futures::TryStreamExt::try_flatten(chunks)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(lock(&self.recent).vote)
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        self.read(from, to, self.read_bytes_max).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let (last_purged_log_id, last_log_id) = self.bounds();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        self.send(Op::Vote { vote: *vote, done }).await?;
        saved.await.map_err(io::Error::other)??;
        lock(&self.recent).vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        lock(&self.recent).committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.recent).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let epoch = lock(&self.recent).append(&entries);
        self.send(Op::Append { entries, epoch, done: callback }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        lock(&self.recent).truncate(last);
        let (done, cut) = oneshot::channel();
        self.send(Op::Truncate { keep: last.map(|id| id.index), done }).await?;
        cut.await.map_err(io::Error::other)?
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        lock(&self.recent).purge(upto);
        // Not waited for: the queue keeps its order, and until it is durable the old entries are
        // merely still there.
        self.send(Op::Purge(upto)).await
    }
}
