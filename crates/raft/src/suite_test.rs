//! openraft's own storage suite, and what only a broken disk shows.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::contract::*;
use crate::log::ledger::{Ledger, RedbLedger, Write};
use crate::log::{LogLimits, LogStore};
use crate::machine::MachineAdapter;
use crate::snapshot::SnapshotDir;
use crate::types::{Entry, TypeConfig};
use crate::{Raft, start};

#[derive(Default)]
struct Tape(Mutex<Vec<u8>>);

impl Machine for Tape {
    fn apply(&self, batch: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let mut tape = self.0.lock().unwrap();
        batch
            .into_iter()
            .map(|(_, c)| {
                tape.extend_from_slice(&c);
                c
            })
            .collect()
    }
    fn applied(&self, _: u64) {}
    fn freeze(&self) -> Frozen {
        let copy = self.0.lock().unwrap().clone();
        Box::new(move |out| out.write_all(&copy))
    }
    fn restore(&self, _: u64, r: &mut dyn Read) -> io::Result<()> {
        let mut copy = Vec::new();
        r.read_to_end(&mut copy)?;
        *self.0.lock().unwrap() = copy;
        Ok(())
    }
}

struct NoNetwork;

impl Network for NoNetwork {
    fn call(&self, _: Peer, _: Verb, _: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        Box::pin(async { Err(NetworkError::Unreachable("alone".into())) })
    }
    fn send_snapshot(
        &self,
        _: Peer,
        _: Bytes,
        _: std::path::PathBuf,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        Box::pin(async { Err(NetworkError::Unreachable("alone".into())) })
    }
}

struct Builder {
    recent_bytes_max: usize,
}

impl StoreBuilder<TypeConfig, LogStore, MachineAdapter, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MachineAdapter), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { recent_bytes_max: self.recent_bytes_max, read_bytes_max: 100 };
        let (log, _writer) = LogStore::open(dir.path(), limits).unwrap();
        let snapshots = Arc::new(SnapshotDir::open(dir.path().join("snapshots")).unwrap());
        Ok((dir, log, MachineAdapter::new(Arc::new(Tape::default()), snapshots)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_the_machine_pass_the_storage_suite_of_openraft() {
    Suite::test_all(Builder { recent_bytes_max: 1 << 20 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_passes_the_storage_suite_when_it_can_keep_nothing_in_memory() {
    Suite::test_all(Builder { recent_bytes_max: 0 }).await.unwrap();
}

/// A ledger on a disk that can be told to fail.
struct Failing {
    inner: RedbLedger,
    broken: Arc<AtomicBool>,
}

impl Ledger for Failing {
    fn commit(&self, writes: &[Write]) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        self.inner.commit(writes)
    }
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        self.inner.read(from, to, bytes_max)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_node_acknowledges_nothing_and_the_node_starts_again_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let me = Peer { id: 7, name: "a".into(), addr: "a:1".into() };
    let config = Config::new(me.clone(), dir.path().to_owned());
    let (inner, opened) = RedbLedger::open(dir.path()).unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let ledger = Arc::new(Failing { inner, broken: broken.clone() });
    let limits = LogLimits { recent_bytes_max: 1 << 20, read_bytes_max: 1 << 20 };
    let (log, writer) = LogStore::with_ledger(dir.path(), limits, ledger, opened).unwrap();
    let snapshots = Arc::new(SnapshotDir::open(dir.path().join("snapshots")).unwrap());
    let tape = Arc::new(Tape::default());
    let raft =
        start::assemble(config.clone(), tape.clone(), Arc::new(NoNetwork), (log, writer, snapshots)).await.unwrap();
    raft.initialize(vec![me]).await.unwrap();
    raft.status().wait_for(Status::is_leader).await.unwrap();
    raft.propose(Bytes::from_static(b"kept")).await.unwrap();

    broken.store(true, Ordering::Relaxed);
    let lost = raft.propose(Bytes::from_static(b"lost")).await;
    assert!(matches!(lost, Err(ProposeError::Unknown(_))), "{lost:?}");
    let mut status = raft.status();
    let status = tokio::time::timeout(Duration::from_secs(5), status.wait_for(|s| s.role == Role::Stopped));
    let fault = status.await.unwrap().unwrap().fault.clone().unwrap();
    assert!(fault.contains("no space left"), "{fault}");
    let after = raft.propose(Bytes::from_static(b"late")).await;
    assert!(matches!(after, Err(ProposeError::Unavailable(_))), "{after:?}");
    assert_eq!(*tape.0.lock().unwrap(), b"kept");

    raft.shutdown().await;
    std::fs::write(dir.path().join("identity"), format!("7 {:08x}\n", crc32c::crc32c(b"7"))).unwrap();
    let tape = Arc::new(Tape::default());
    let raft = Raft::start(config, tape.clone(), Arc::new(NoNetwork)).await.unwrap();
    raft.status().wait_for(Status::is_leader).await.unwrap();
    raft.propose(Bytes::from_static(b" and more")).await.unwrap();
    assert_eq!(*tape.0.lock().unwrap(), b"kept and more");
    raft.shutdown().await;
}

#[test]
fn a_log_that_ends_before_what_was_acknowledged_is_damaged() {
    let entry = |index| Entry {
        log_id: crate::types::log_id(1, index),
        payload: openraft::EntryPayload::Normal(crate::types::Command(Bytes::from_static(b"x"))),
    };
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = RedbLedger::open(dir.path()).unwrap();
    ledger.commit(&[Write::Append(vec![entry(0), entry(1)])]).unwrap();
    drop(ledger);
    std::fs::copy(dir.path().join("log.redb"), dir.path().join("before")).unwrap();
    let (ledger, opened) = RedbLedger::open(dir.path()).unwrap();
    assert_eq!(opened.last.unwrap().index, 1);
    ledger.commit(&[Write::Append(vec![entry(2)])]).unwrap();
    ledger.commit(&[Write::TruncateAfter(Some(1)), Write::Append(vec![entry(2)])]).unwrap();
    drop(ledger);
    std::fs::rename(dir.path().join("before"), dir.path().join("log.redb")).unwrap();
    let Err(Error::Damaged { what }) = RedbLedger::open(dir.path()).map(drop) else { panic!("it opened") };
    assert_eq!(what, "the log ends at 1, but 2 was acknowledged");
}

#[test]
fn truncating_and_purging_inside_a_row_leave_exactly_the_rest() {
    let entry = |index| Entry { log_id: crate::types::log_id(1, index), payload: openraft::EntryPayload::Blank };
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = RedbLedger::open(dir.path()).unwrap();
    ledger.commit(&[Write::Append((0..10).map(entry).collect())]).unwrap();
    ledger.commit(&[Write::Append((10..20).map(entry).collect())]).unwrap();
    ledger.commit(&[Write::TruncateAfter(Some(14)), Write::Purge(crate::types::log_id(1, 4))]).unwrap();
    let indexes =
        |from, to, max| -> Vec<u64> { ledger.read(from, to, max).unwrap().iter().map(|e| e.log_id.index).collect() };
    assert_eq!(indexes(5, 99, 1 << 20), (5..15).collect::<Vec<_>>());
    assert_eq!(indexes(12, 13, 1 << 20), [12]);
    assert_eq!(indexes(8, 99, 1), [8], "a small limit still gives one");
    ledger.commit(&[Write::Append((15..17).map(entry).collect())]).unwrap();
    ledger.commit(&[Write::Purge(crate::types::log_id(1, 9))]).unwrap();
    drop(ledger);
    let (ledger, opened) = RedbLedger::open(dir.path()).unwrap();
    assert_eq!((opened.purged.unwrap().index, opened.last.unwrap().index), (9, 16));
    ledger.commit(&[Write::Purge(crate::types::log_id(3, 40))]).unwrap();
    drop(ledger);
    let (_, opened) = RedbLedger::open(dir.path()).unwrap();
    assert_eq!((opened.purged.unwrap().index, opened.last.unwrap().index), (40, 40));
}
