//! The one thread that writes the log.
//!
//! It drains a bounded queue: whatever has gathered while the last flush ran becomes one commit with
//! one flush, then everybody who waits is told, in order. Votes keep their place in that order.
//!
//! After the first failure every later write fails with the same error: what is on disk is unknown,
//! so nothing may be acknowledged until the log is opened anew.

use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::ledger::{Ledger, Write};
use super::vote::VoteFile;
use super::{Recent, lock};
use crate::codec::entry_bytes;
use crate::types::{Entry, LogId, TypeConfig, Vote};

pub(crate) const QUEUE_LEN: usize = 1_024;
/// One commit takes at most about this much, so that the first in it does not wait for too many.
const COMMIT_BYTES: usize = 8 << 20;
const ROW_BYTES: usize = 1 << 20;

pub(crate) enum Op {
    /// `epoch` tells which truncations these entries have seen.
    Append {
        entries: Vec<Entry>,
        epoch: u64,
        done: IOFlushed<TypeConfig>,
    },
    Truncate {
        keep: Option<u64>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Purge(LogId),
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
}

enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Other(oneshot::Sender<io::Result<()>>),
}

pub(crate) struct Writer {
    pub ledger: Arc<dyn Ledger>,
    pub votes: VoteFile,
    pub recent: Arc<std::sync::Mutex<Recent>>,
    pub failed: Option<(io::ErrorKind, String)>,
    pub committed: Option<LogId>,
}

/// What has been taken from the queue for the next commit.
#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    waiters: Vec<Waiter>,
    bytes: usize,
    row_bytes: usize,
    /// Epoch and index up to which entries are durable once this is committed.
    durable: Option<(u64, u64)>,
}

impl Group {
    fn append(&mut self, entries: Vec<Entry>, epoch: u64) {
        let Some(end) = entries.last().map(|e| e.log_id.index) else { return };
        self.durable = Some((epoch, end));
        for entry in entries {
            let bytes = entry_bytes(&entry);
            self.bytes += bytes;
            match self.writes.last_mut() {
                Some(Write::Append(row)) if self.row_bytes + bytes <= ROW_BYTES => {
                    self.row_bytes += bytes;
                    row.push(entry);
                }
                _ => {
                    self.row_bytes = bytes;
                    self.writes.push(Write::Append(vec![entry]));
                }
            }
        }
    }
}

impl Writer {
    /// Runs until every sender is gone.
    pub fn run(mut self, mut queue: mpsc::Receiver<Op>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = Group::default();
            self.take(first, &mut group);
            while group.bytes < COMMIT_BYTES {
                let Ok(op) = queue.try_recv() else { break };
                self.take(op, &mut group);
            }
            self.finish(group);
        }
        // A last word on what is committed spares the next start an election to learn it.
        self.finish(Group::default());
    }

    fn take(&mut self, op: Op, group: &mut Group) {
        match op {
            Op::Append { entries, epoch, done } => {
                group.append(entries, epoch);
                group.waiters.push(Waiter::Append(done));
            }
            Op::Truncate { keep, done } => {
                group.writes.push(Write::TruncateAfter(keep));
                group.waiters.push(Waiter::Other(done));
            }
            Op::Purge(upto) => group.writes.push(Write::Purge(upto)),
            Op::Vote { vote, done } => {
                self.finish(std::mem::take(group));
                let saved = self.attempt(|this| this.votes.save(&vote));
                let _ = done.send(saved);
            }
        }
    }

    fn finish(&mut self, mut group: Group) {
        self.note_committed(&mut group);
        let result = if group.writes.is_empty() {
            self.attempt(|_| Ok(()))
        } else {
            self.attempt(|this| this.ledger.commit(&group.writes))
        };
        if result.is_ok()
            && let Some((epoch, index)) = group.durable
        {
            lock(&self.recent).durable(epoch, index);
        }
        for waiter in group.waiters {
            let result = match &result {
                Ok(()) => Ok(()),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            match waiter {
                Waiter::Append(done) => done.io_completed(result),
                Waiter::Other(done) => drop(done.send(result)),
            }
        }
    }

    /// The committed mark rides along with other writes; it never costs a flush of its own, and
    /// never names an entry this disk does not hold.
    fn note_committed(&mut self, group: &mut Group) {
        let (committed, held) = {
            let recent = lock(&self.recent);
            (recent.committed, recent.durable_index())
        };
        let held = group.durable.map_or(held, |(_, index)| index);
        if let Some(id) = committed
            && committed > self.committed
            && id.index <= held
        {
            self.committed = committed;
            group.writes.push(Write::Committed(id));
        }
    }

    fn attempt(&mut self, f: impl FnOnce(&Self) -> io::Result<()>) -> io::Result<()> {
        if let Some((kind, what)) = &self.failed {
            return Err(io::Error::new(*kind, what.clone()));
        }
        let result = f(self);
        if let Err(e) = &result {
            tracing::error!(error = %e, "raft log write failed");
            self.failed = Some((e.kind(), e.to_string()));
        }
        result
    }
}
