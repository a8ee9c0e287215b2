//! One state server: raft with its machine, rebuilt in place when its storage fails.
//!
//! ```text
//!   start ──► running ──(storage error: raft has ended)──► stopped ──(backoff)──► start
//!     │ damaged data
//!     ▼
//!   set aside the data, take a new raft id, wait to be added as a learner
//! ```
//!
//! A server whose data was set aside founds no cluster: an empty one would end every task of the one that was.
//!
//! Who notices: `/health/ready` names the fault, one log line says it, and peers see a silent member.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use api::public::OperatorHealthReply;
use arc_swap::{ArcSwap, ArcSwapOption};
use raft::{Config, Error, Peer, Raft};

use crate::contact::Contact;
use crate::feed::{Feed, Limits};
use crate::format;
use crate::leases::Renewals;
use crate::machine::Machine;
use crate::network::Network;
use crate::numbers::{self, Numbers};
use crate::small_file;

/// Held by whoever uses a server's directory.
pub const LOCK: &str = "lock";
const HAND_OVER: Duration = Duration::from_secs(1);
/// Damaged copies that are kept.
const DAMAGED_MAX: usize = 100;
/// A predecessor that was just killed may still hold its lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What a state server is made of at the moment.
#[derive(Clone)]
pub struct Running {
    pub raft: Arc<Raft>,
    pub machine: Arc<Machine>,
}

/// The present [`Running`], for handlers; `None` while raft is being (re)started.
#[derive(Clone, Default)]
pub struct Server {
    running: Arc<RwLock<Option<Running>>>,
    contact: Arc<Contact>,
    founder: Arc<AtomicU64>,
    waiting: Arc<ArcSwap<String>>,
    health: Arc<ArcSwapOption<OperatorHealthReply>>,
    dismissed: Arc<AtomicBool>,
    renewals: Arc<Renewals>,
}

impl Server {
    pub fn get(&self) -> Option<Running> {
        self.running.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }

    pub fn renewals(&self) -> &Renewals {
        &self.renewals
    }

    /// Makes this server answer nobody but raft, for a reason; or lets it answer again.
    pub fn hold(&self, why: Option<&str>) {
        self.contact.hold(why);
    }

    /// Whom this server, while it has no log, would follow as the founder of a group; 0 = nobody.
    pub fn expect_founder(&self, id: u64) {
        self.founder.store(id, Ordering::Release);
    }

    pub fn founder(&self) -> u64 {
        self.founder.load(Ordering::Acquire)
    }

    /// Why this server is not part of a cluster; empty when it is.
    pub fn waiting(&self) -> Arc<String> {
        self.waiting.load_full()
    }

    /// What the leader's autopilot last found; on the leader only.
    pub fn health(&self) -> Option<Arc<OperatorHealthReply>> {
        self.health.load_full()
    }

    pub fn set_health(&self, health: Option<Arc<OperatorHealthReply>>) {
        self.health.store(health);
    }

    /// An operator took this server out of its group: until it is started again, it does not ask to be taken
    /// in.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
    }

    /// It has a log, hears no leader, and was not removed by hand: it wants to be taken in.
    pub fn asks(&self, status: &raft::Status) -> bool {
        status.initialized && self.contact.is_missed() && !self.dismissed.load(Ordering::Acquire)
    }

    pub fn wait_for(&self, what: &str) {
        self.waiting.store(Arc::new(what.to_owned()));
    }

    fn set(&self, running: Option<Running>) {
        *self.running.write().unwrap_or_else(std::sync::PoisonError::into_inner) = running;
    }
}

/// What it takes to start raft.
pub struct Starter {
    pub shell: kit::shell::Shell,
    pub dir: PathBuf,
    pub snapshot_after: u64,
    pub tuning: crate::tuning::Tuning,
}

impl Starter {
    /// Keeps raft running until shutdown.
    pub async fn keep(self, server: Server) {
        let ready = self.shell.readiness.condition("raft", "starting");
        let shutdown = self.shell.shutdown.clone();
        let mut backoff = Duration::from_millis(200);
        let mut fault: Option<String> = None;
        while !shutdown.is_requested() {
            // A log that has no room opens well, and fails with the next entry.
            if let Some(why) = &fault
                && let Err(error) = take_room(&self.dir).await
            {
                ready.unmet(format!("raft storage failed: {why}; waits until it can be written to: {error}"));
                let _ = shutdown.or(tokio::time::sleep(backoff)).await;
                backoff = (backoff * 2).min(Duration::from_secs(2));
                continue;
            }
            if let Err(why) = format::claim(&self.dir) {
                tracing::error!(why, "raft data cannot be used");
                ready.unmet(why);
                let _ = shutdown.or(tokio::time::sleep(Duration::from_secs(5))).await;
                continue;
            }
            match self.start().await {
                Ok(running) => {
                    ready.met();
                    backoff = Duration::from_millis(200);
                    let mut status = running.raft.status();
                    server.set(Some(running.clone()));
                    let ended = async {
                        let _ = status.wait_for(|s| s.fault.is_some()).await;
                    };
                    if shutdown.or(ended).await.is_none() {
                        hand_over(&running.raft).await;
                        running.raft.shutdown().await;
                        break;
                    }
                    let why = status.borrow().fault.clone().unwrap_or_default();
                    tracing::error!(fault = why, "raft storage failed, starting it again when it can be written to");
                    ready.unmet(format!("raft storage failed: {why}"));
                    fault = Some(why);
                    server.set(None);
                    running.raft.shutdown().await;
                }
                Err(Error::Damaged { what }) => {
                    tracing::error!(what, "raft data is damaged, setting it aside to rejoin as a new member");
                    ready.unmet(format!("raft data is damaged: {what}"));
                    set_aside(&self.dir);
                }
                Err(error) => {
                    tracing::error!(error = %error, "raft does not start");
                    ready.unmet(format!("raft does not start: {error}"));
                }
            }
            let _ = shutdown.or(tokio::time::sleep(backoff)).await;
            backoff = (backoff * 2).min(Duration::from_secs(5));
        }
    }

    async fn start(&self) -> Result<Running, Error> {
        std::fs::create_dir_all(&self.dir).map_err(Error::Storage)?;
        let id = raft_id(&self.dir).map_err(Error::Storage)?;
        let me = Peer { id, name: self.shell.name.clone(), addr: self.shell.addr.to_string() };
        let mut config = Config::new(me, self.dir.clone());
        config.snapshot_after_entries = self.snapshot_after;
        self.tuning.apply(&mut config);
        let feed = Arc::new(Feed::new(Limits::default()));
        let machine = Arc::new(Machine::new(feed, Numbers::new(self.shell.metrics.clone())));
        let network = Arc::new(Network::new(self.shell.http.clone(), self.shell.peers()));
        let raft = Raft::start(config, Arc::clone(&machine) as Arc<dyn raft::Machine>, network).await?;
        tracing::info!(raft_id = id, "raft started");
        tokio::spawn(numbers::follow(self.shell.metrics.clone(), raft.status()));
        Ok(Running { raft: Arc::new(raft), machine })
    }
}

/// What must be free before raft is started again after a failure.
const ROOM_BYTES: usize = 1 << 20;

/// Writes a file of some size beside the log, and removes it.
async fn take_room(dir: &Path) -> std::io::Result<()> {
    let path = dir.join("room");
    let tried = tokio::task::spawn_blocking(move || {
        let written = std::fs::File::create(&path).and_then(|mut file| {
            std::io::Write::write_all(&mut file, &vec![0; ROOM_BYTES])?;
            file.sync_all()
        });
        // Whatever came of it, it takes no room.
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    });
    tried.await.map_err(std::io::Error::other)?
}

/// A leader that ends in good order names its successor, so that nobody waits for an election.
async fn hand_over(raft: &Raft) {
    let status = raft.status().borrow().clone();
    if !status.is_leader() {
        return;
    }
    let others = status.voters.iter().filter(|peer| peer.id != status.id);
    let newest = others.max_by_key(|peer| status.matched.get(&peer.id).copied().unwrap_or(0));
    let Some(newest) = newest else { return };
    match tokio::time::timeout(HAND_OVER, raft.transfer_leadership(newest.id)).await {
        Ok(Ok(())) => tracing::info!(to = newest.name, "leadership handed over"),
        Ok(Err(error)) => tracing::info!(error = %error, "leadership is not handed over, the others elect"),
        Err(_) => tracing::info!("leadership is not handed over in time, the others elect"),
    }
}

/// Takes the data directory for this process alone, until it is dropped. Comes before anything else: a
/// second server in it would tidy up the first one's snapshots and contend for its name.
///
/// # Errors
/// `InUse`, or the directory cannot be used.
pub fn take_dir(dir: &Path) -> Result<std::fs::File, DirError> {
    let failed = |source| DirError::Io { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let file = file.map_err(failed)?;
    let until = std::time::Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if std::time::Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(DirError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    #[error("data directory {} is in use by another state server", dir.display())]
    InUse { dir: PathBuf },
    #[error("data directory {} cannot be used: {source}", dir.display())]
    Io { dir: PathBuf, source: std::io::Error },
}

/// This server's raft id: random, made once, kept beside the log. A server that lost its data is
/// another member.
fn raft_id(dir: &Path) -> std::io::Result<u64> {
    let path = dir.join("raft-id");
    if let Some(text) = small_file::read(&path)? {
        return text.parse().map_err(|_| std::io::Error::other("raft-id is not a number"));
    }
    // 53 bits, so that every JSON reader keeps it.
    let id = rand::random::<u64>() >> 11 | 1;
    small_file::write(&path, &id.to_string())?;
    Ok(id)
}

/// Damaged data of raft that was set aside and is still there.
pub fn damaged(dir: &Path) -> Option<PathBuf> {
    (0..DAMAGED_MAX).map(|n| damaged_dir(dir, n)).rfind(|aside| aside.exists())
}

fn damaged_dir(dir: &Path, n: usize) -> PathBuf {
    dir.with_extension(format!("damaged-{n}"))
}

fn set_aside(dir: &Path) {
    for n in 0..DAMAGED_MAX {
        let to = damaged_dir(dir, n);
        if !to.exists() {
            if let Err(error) = std::fs::rename(dir, &to) {
                tracing::error!(error = %error, "damaged raft data cannot be set aside");
            }
            return;
        }
    }
    tracing::error!("too many damaged copies of raft data are kept, remove them");
}
