//! Bringing a node up: check the directory, open log and snapshots, build openraft on its own
//! threads, start what runs beside it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::SnapshotPolicy;
use openraft::async_runtime::WatchReceiver;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::contract::{Config, Error, Machine, Network, PeerId};
use crate::lanes::Lanes;
use crate::log::ledger::classify;
use crate::log::{LogLimits, LogStore};
use crate::machine::MachineAdapter;
use crate::net::{Factory, Shared};
use crate::node::{Inner, Parts, Raft, Retry};
use crate::snapshot::SnapshotDir;
use crate::status::LastHeard;
use crate::ticks::Grid;
use crate::{reads, status};

const IDENTITY: &str = "identity";
const ENTRIES_PER_APPEND: u64 = 1_024;

/// The raft id a directory belongs to; none when no node was ever started in it.
///
/// # Errors
/// `Damaged` when the file is there but cannot be read as an id.
pub fn stored_id(dir: &Path) -> Result<Option<PeerId>, Error> {
    let damaged = || Error::Damaged { what: "the identity file cannot be read".into() };
    match std::fs::read(dir.join(IDENTITY)) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?;
            let (id, crc) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
            if format!("{:08x}", crc32c::crc32c(id.as_bytes())) != crc {
                return Err(damaged());
            }
            id.parse().map(Some).map_err(|_| damaged())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::Storage(e)),
    }
}

fn claim(dir: &Path, id: PeerId) -> Result<(), Error> {
    match stored_id(dir)? {
        Some(stored) if stored != id => Err(Error::WrongId { stored, asked: id }),
        Some(_) => Ok(()),
        None if dir.join("log.redb").exists() => Err(Error::Damaged { what: "there is a log, but no identity".into() }),
        None => {
            let text = id.to_string();
            let line = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
            files::replace(&dir.join(IDENTITY), line.as_bytes(), 0o644).map_err(Error::Storage)
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// openraft waits a lease of `election_timeout_max` *and then* a random election timeout. We speak of
/// the time since the leader was last heard, so half of ours is its lease.
fn settings(config: &Config) -> Result<openraft::Config, Error> {
    let bad = |what: &str| Error::Settings(what.to_owned());
    let heartbeat = ms(config.heartbeat);
    let lease = ms(config.election_max) / 2;
    let earliest = ms(config.election_min).saturating_sub(lease).max(heartbeat * 3 / 2);
    if heartbeat == 0 || lease <= earliest {
        return Err(bad("election_max must be more than three heartbeats and above election_min"));
    }
    if config.threads == 0 || config.pipeline_depth == 0 || config.proposals_max == 0 {
        return Err(bad("threads, pipeline_depth and proposals_max must not be zero"));
    }
    if config.pipeline_depth > 32 || config.command_bytes_max > 1 << 30 {
        return Err(bad("pipeline_depth is at most 32 and command_bytes_max at most 1 GiB"));
    }
    if config.command_bytes_max > config.proposal_bytes_max {
        return Err(bad("proposal_bytes_max must let the largest command pass"));
    }
    openraft::Config {
        cluster_name: "raft".into(),
        heartbeat_interval: Grid::new(config.heartbeat).map_or(heartbeat, |grid| ms(grid.heartbeat(config.heartbeat))),
        election_timeout_min: earliest,
        election_timeout_max: lease,
        install_snapshot_timeout: ms(config.snapshot_timeout),
        max_payload_entries: ENTRIES_PER_APPEND,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_after_entries.max(1)),
        max_in_snapshot_log_to_keep: config.keep_entries_after_snapshot,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(lease * 2 + heartbeat),
        backoff: "50ms 100ms 200ms ...400ms".into(),
        ..Default::default()
    }
    .validate()
    .map_err(|e| Error::Settings(e.to_string()))
}

/// The log and the snapshots must together hold everything from the first entry on.
fn whole(log: &LogStore, snapshots: &SnapshotDir) -> Result<(), Error> {
    let (purged, _) = log.bounds();
    let held = snapshots.current().and_then(|(meta, _)| meta.last_log_id);
    if held < purged {
        let what = "the log is purged beyond the last snapshot".to_owned();
        return Err(Error::Damaged { what });
    }
    Ok(())
}

fn runtime(config: &Config) -> Result<Runtime, Error> {
    let grid = Grid::new(config.heartbeat);
    Builder::new_multi_thread()
        .worker_threads(config.threads)
        .max_blocking_threads(8)
        .on_thread_start(move || grid.into_iter().for_each(Grid::enter))
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(Error::Storage)
}

type Opened = (LogStore, std::thread::JoinHandle<()>, Arc<SnapshotDir>);

fn open(config: &Config) -> Result<Opened, Error> {
    std::fs::create_dir_all(&config.dir).map_err(Error::Storage)?;
    claim(&config.dir, config.me.id)?;
    let snapshots = SnapshotDir::open(config.dir.join("snapshots")).map_err(classify)?;
    let limits = LogLimits { recent_bytes_max: config.recent_bytes_max, read_bytes_max: config.append_bytes_max };
    let (log, writer) = LogStore::open(&config.dir, limits)?;
    if let Err(e) = whole(&log, &snapshots) {
        // Leave with the files closed: the caller may be about to move them away.
        drop(log);
        let _ = writer.join();
        return Err(e);
    }
    Ok((log, writer, Arc::new(snapshots)))
}

pub(crate) async fn start(config: Config, machine: Arc<dyn Machine>, network: Arc<dyn Network>) -> Result<Raft, Error> {
    let for_opening = config.clone();
    let opened =
        tokio::task::spawn_blocking(move || open(&for_opening)).await.map_err(|e| Error::Stopped(e.to_string()))??;
    assemble(config, machine, network, opened).await
}

pub(crate) async fn assemble(
    config: Config,
    machine: Arc<dyn Machine>,
    network: Arc<dyn Network>,
    (log, writer, snapshots): Opened,
) -> Result<Raft, Error> {
    let settings = Arc::new(settings(&config)?);
    let runtime = Guard(Some(runtime(&config)?));
    let handle = runtime.handle();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shared = Shared {
        me: config.me.id,
        network,
        append_timeout: config.append_timeout,
        snapshot_timeout: config.snapshot_timeout,
        pipeline_depth: config.pipeline_depth,
        commit_patience: config.commit_patience,
        sessions: AtomicU64::new(ms(clock) << 16),
    };
    let adapter = MachineAdapter::new(machine, snapshots.clone());
    let (id, store) = (config.me.id, log.clone());
    let building =
        handle.spawn(async move { Inner::new(id, settings, Factory(Arc::new(shared)), store, adapter).await });
    let raft = building.await.map_err(|e| Error::Stopped(e.to_string()))?.map_err(refused)?;

    let heard = LastHeard::new();
    // The core answers once it runs, and by then its metrics are real.
    raft.is_initialized().await.map_err(refused)?;
    let now = status::of(&raft.metrics().borrow_watched());
    let (status_out, status) = watch::channel(now);
    handle.spawn(status::publish(raft.clone(), status_out));
    let retry = Retry { patience: config.election_max * 2 };
    let (reads, queue) = mpsc::channel(reads::QUEUE_LEN);
    handle.spawn(reads::serve(raft.clone(), retry, queue));
    let lanes = Lanes::new(raft.clone(), handle.clone());
    let runtime = runtime.release();
    Ok(Raft::new(Parts { config, raft, log, snapshots, lanes, heard, status, reads, retry, runtime, writer }))
}

/// What openraft found while it rebuilt the state from snapshot and log.
fn refused(e: openraft::errors::Fatal<crate::types::TypeConfig>) -> Error {
    match e {
        openraft::errors::Fatal::StorageError(e) => {
            Error::Damaged { what: format!("the state cannot be rebuilt: {e}") }
        }
        other => Error::Stopped(other.to_string()),
    }
}

/// A runtime that may be dropped from async code when starting fails half-way.
struct Guard(Option<Runtime>);

impl Guard {
    fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("taken only by release").handle().clone()
    }

    fn release(mut self) -> Runtime {
        self.0.take().expect("taken only here")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
