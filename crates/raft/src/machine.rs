//! Between openraft and the [`Machine`]: batches of commands in, replies out, snapshots both ways.
//!
//! Driven by openraft's state machine worker, one call at a time. A machine that panics, or answers
//! with the wrong number of replies, ends the node instead of letting it diverge.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::contract::{Frozen, Machine};
use crate::log::lock;
use crate::snapshot::{SnapshotDir, SnapshotFile};
use crate::types::{LogId, Reply, SnapshotMeta, StoredMembership, TypeConfig};

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

const BATCH_ENTRIES: usize = 1_024;
const BATCH_BYTES: usize = 4 << 20;
/// A batch of at least this many commands leaves the async threads to others while it is applied.
const BLOCKING_ENTRIES: usize = 16;
const BLOCKING_BYTES: usize = 64 << 10;

pub(crate) struct MachineAdapter {
    machine: Arc<dyn Machine>,
    snapshots: Arc<SnapshotDir>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

/// Commands gathered for one call of the machine.
#[derive(Default)]
struct Batch {
    commands: Vec<(u64, Bytes)>,
    /// One per command, in order; then those that wait for entries without a command.
    waiting: Vec<Option<openraft::storage::ApplyResponder<TypeConfig>>>,
    plain: Vec<openraft::storage::ApplyResponder<TypeConfig>>,
    bytes: usize,
    last: Option<LogId>,
}

impl MachineAdapter {
    pub fn new(machine: Arc<dyn Machine>, snapshots: Arc<SnapshotDir>) -> Self {
        Self { machine, snapshots, applied: None, membership: StoredMembership::default() }
    }

    fn flush(&mut self, batch: Batch) -> io::Result<()> {
        let Some(last) = batch.last else { return Ok(()) };
        let count = batch.commands.len();
        let large = count >= BLOCKING_ENTRIES || batch.bytes >= BLOCKING_BYTES;
        let machine = &self.machine;
        let commands = batch.commands;
        let run = || {
            let replies = if count == 0 { Vec::new() } else { machine.apply(commands) };
            machine.applied(last.index);
            replies
        };
        let replies =
            guarded(
                "applying entries",
                || {
                    if large && may_block() { tokio::task::block_in_place(run) } else { run() }
                },
            )?;
        if replies.len() != count {
            let what = format!("the machine gave {} replies to {count} commands", replies.len());
            return Err(io::Error::other(what));
        }
        self.applied = Some(last);
        for (waiter, reply) in batch.waiting.into_iter().zip(replies) {
            if let Some(waiter) = waiter {
                waiter.send(Reply(reply));
            }
        }
        for waiter in batch.plain {
            waiter.send(Reply::default());
        }
        Ok(())
    }
}

fn may_block() -> bool {
    Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread)
}

fn guarded<T>(what: &str, f: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_| io::Error::other(format!("the machine panicked while {what}")))
}

async fn off_thread<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

impl RaftStateMachine<TypeConfig> for MachineAdapter {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(item) = entries.next().await {
            let (entry, waiter) = item?;
            batch.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Normal(command) => {
                    batch.bytes += command.0.len();
                    batch.commands.push((entry.log_id.index, command.0));
                    batch.waiting.push(waiter);
                }
                EntryPayload::Blank => batch.plain.extend(waiter),
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
                    batch.plain.extend(waiter);
                }
            }
            if batch.commands.len() >= BATCH_ENTRIES || batch.bytes >= BATCH_BYTES {
                self.flush(std::mem::take(&mut batch))?;
            }
        }
        self.flush(batch)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let machine = self.machine.clone();
        let frozen = guarded("freezing", || machine.freeze());
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder { frozen: Mutex::new(Some(frozen)), meta, snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> io::Result<()> {
        let (machine, snapshots, meta) = (self.machine.clone(), self.snapshots.clone(), meta.clone());
        let (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
        off_thread(move || {
            let (_, mut reader) = file.open()?;
            let index = meta.last_log_id.map_or(0, |id| id.index);
            guarded("restoring", || machine.restore(index, &mut reader))??;
            reader.drain()?;
            snapshots.adopt(&meta, &file)?;
            guarded("restoring", || machine.applied(index))
        })
        .await?;
        self.applied = applied;
        self.membership = membership;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.current().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one frozen state, away from the machine.
pub(crate) struct Builder {
    /// Behind a lock only because openraft wants its builders to be `Sync`.
    frozen: Mutex<Option<io::Result<Frozen>>>,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotDir>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let frozen = lock(&self.frozen).take();
        let frozen = frozen.ok_or_else(|| io::Error::other("a snapshot is built once"))??;
        let (snapshots, meta) = (self.snapshots.clone(), self.meta.clone());
        let snapshot = off_thread(move || guarded("writing a snapshot", || snapshots.write(&meta, frozen))?).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
