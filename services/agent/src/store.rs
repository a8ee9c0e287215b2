//! What an agent must still know after it was killed: which allocations it had, how far each had come, how
//! to find its tasks again, and what the cluster was told last.
//!
//! ```text
//!   Store::save / told / forget ──bounded queue──► Writer ──one commit per batch──► redb file
//!                                   ▲                 │
//!                     answer when committed ◄─────────┘        flushed to disk every few seconds
//! ```
//!
//! * Nothing waits for the disk. A commit reaches the kernel, which outlives `kill -9` of the agent; tasks do
//!   not outlive the machine, so what a power cut takes away is of no use to anybody.
//! * A row is one JSON document; fields are only ever added. A row that cannot be read is left out with a
//!   line in the log, a file that cannot be read is set aside and begun anew: the cluster sends every
//!   allocation again, and what runs without a row is ended as an orphan.
//! * The writer keeps what it could not write and tries again; callers are told and go on. Only the newest
//!   value per allocation is kept, so this is bounded by the number of allocations.
//!
//! Driven by [`Writer::run`]. When it cannot write, one line says so, and a restart meanwhile finds an older
//! state: tasks started since are started anew.

mod file;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driver::Handle;
use fsm::command::AllocClientUpdate;
use kit::process::Shutdown;
use lifecycle::Saved;
use model::{AllocId, Allocation};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::link::Told;
use file::File;
pub use file::StoreError;

const QUEUE: usize = 256;
const BATCH_MAX: usize = 256;
const RETRY: Duration = Duration::from_secs(1);
/// How much work at most a power cut takes back.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// A task the driver holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The number of the start it belongs to.
    pub start: u64,
    pub handle: Handle,
}

/// How far an allocation has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub saved: Saved,
    pub held: BTreeMap<String, Held>,
    /// The network its tasks share.
    pub network: Option<Box<driver::contract::Namespace>>,
}

/// An allocation of an earlier agent.
#[derive(Clone, Debug)]
pub struct Stored {
    pub alloc: Allocation,
    /// `None`: nothing was begun.
    pub progress: Option<Progress>,
    pub told: Option<AllocClientUpdate>,
}

#[derive(Debug)]
enum Write {
    Save { alloc: Option<Arc<Allocation>>, id: AllocId, progress: Progress },
    Told(Arc<AllocClientUpdate>),
    Forget(AllocId),
}

/// What is to be written about one allocation.
#[derive(Clone, Debug, Default)]
struct Unsaved {
    /// Everything older goes first.
    forget: bool,
    alloc: Option<Arc<Allocation>>,
    progress: Option<Arc<Progress>>,
    told: Option<Arc<AllocClientUpdate>>,
}

type Batch = BTreeMap<AllocId, Unsaved>;

/// Gives work to the [`Writer`]. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    queue: mpsc::Sender<(Write, oneshot::Sender<bool>)>,
}

impl Store {
    /// Opens the file and reads all of it. Blocks.
    pub fn open(path: &Path) -> Result<(Self, Writer, Vec<Stored>), StoreError> {
        let (file, stored) = File::open(path)?;
        let (queue, inbox) = mpsc::channel(QUEUE);
        let writer = Writer {
            file: Some(file),
            path: path.to_owned(),
            inbox,
            unsaved: Batch::new(),
            failing: false,
            flushed: Instant::now(),
            dirty: false,
        };
        Ok((Self { queue }, writer, stored))
    }

    /// Stores how far an allocation has come, and its row if that is new. False: not written yet.
    pub async fn save(&self, id: &AllocId, alloc: Option<Arc<Allocation>>, progress: Progress) -> bool {
        self.write(Write::Save { alloc, id: id.clone(), progress }).await
    }

    pub async fn forget(&self, id: &AllocId) -> bool {
        self.write(Write::Forget(id.clone())).await
    }

    async fn write(&self, write: Write) -> bool {
        let (done, answer) = oneshot::channel();
        self.queue.send((write, done)).await.is_ok() && answer.await.unwrap_or(false)
    }
}

/// Stores what the cluster has acknowledged.
impl Told for Store {
    async fn told(&self, update: Arc<AllocClientUpdate>) -> bool {
        self.write(Write::Told(update)).await
    }
}

/// The one that writes.
#[derive(Debug)]
pub struct Writer {
    file: Option<File>,
    path: std::path::PathBuf,
    inbox: mpsc::Receiver<(Write, oneshot::Sender<bool>)>,
    unsaved: Batch,
    failing: bool,
    flushed: Instant,
    dirty: bool,
}

impl Writer {
    /// Writes until `end`, then what is left, and flushes.
    pub async fn run(mut self, end: Shutdown) {
        let mut taken = Vec::new();
        loop {
            let pause = if self.failing { RETRY } else { FLUSH_EVERY };
            let ending = end.is_requested();
            if ending {
                self.inbox.close();
            }
            tokio::select! {
                count = self.inbox.recv_many(&mut taken, BATCH_MAX) => {
                    if count == 0 {
                        break;
                    }
                }
                () = tokio::time::sleep(pause), if self.dirty || self.failing => {}
                () = end.requested(), if !ending => {}
            }
            let mut waiting = Vec::with_capacity(taken.len());
            for (write, done) in taken.drain(..) {
                self.merge(write);
                waiting.push(done);
            }
            self.commit().await;
            for done in waiting {
                let _ = done.send(!self.failing);
            }
        }
        self.commit().await;
        if let Some(file) = self.file.take() {
            let _ = tokio::task::spawn_blocking(move || file.flush()).await;
        }
    }

    fn merge(&mut self, write: Write) {
        match write {
            Write::Save { alloc, id, progress } => {
                let row = self.unsaved.entry(id).or_default();
                row.alloc = alloc.or(row.alloc.take());
                row.progress = Some(Arc::new(progress));
            }
            Write::Told(update) => {
                let row = self.unsaved.entry(update.id.clone()).or_default();
                row.told = Some(update);
            }
            Write::Forget(id) => drop(self.unsaved.insert(id, Unsaved { forget: true, ..Unsaved::default() })),
        }
    }

    /// Writes everything unsaved, off the async threads.
    async fn commit(&mut self) {
        let flush = self.dirty && self.flushed.elapsed() >= FLUSH_EVERY;
        if self.unsaved.is_empty() && !flush {
            return;
        }
        let (file, path, batch) = (self.file.take(), self.path.clone(), std::mem::take(&mut self.unsaved));
        let work = tokio::task::spawn_blocking(move || {
            let opened = match file {
                Some(file) => Ok(file),
                // After a failure the database refuses all work until it is opened again.
                None => File::open(&path).map(|(file, _)| file),
            };
            let result = opened.and_then(|file| {
                file.write(&batch)?;
                if flush {
                    file.flush()?;
                }
                Ok(file)
            });
            (result, batch)
        });
        let Ok((result, batch)) = work.await else { return };
        match result {
            Ok(file) => {
                if self.failing {
                    tracing::info!("local state can be written again");
                }
                (self.failing, self.file) = (false, Some(file));
                self.dirty = (self.dirty || !batch.is_empty()) && !flush;
                if flush {
                    self.flushed = Instant::now();
                }
            }
            Err(error) => {
                if !self.failing {
                    let error = crate::runner::chain(&error);
                    tracing::error!(error, "local state cannot be written, trying again");
                }
                (self.failing, self.unsaved) = (true, batch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alloc(id: &str) -> Arc<Allocation> {
        Arc::new(Allocation { id: id.into(), name: format!("job.g[{id}]"), ..Allocation::default() })
    }

    fn progress(stopping: bool) -> Progress {
        Progress { saved: Saved { stopping, ..Saved::default() }, ..Progress::default() }
    }

    async fn open(path: &Path) -> (Store, Shutdown, tokio::task::JoinHandle<()>, Vec<Stored>) {
        let (store, writer, stored) = Store::open(path).unwrap();
        let end = Shutdown::new();
        let task = tokio::spawn(writer.run(end.clone()));
        (store, end, task, stored)
    }

    #[tokio::test]
    async fn what_was_saved_is_there_again_and_what_was_forgotten_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let (store, end, task, found) = open(&path).await;
        assert!(found.is_empty());
        assert!(store.save(&"a".into(), Some(alloc("a")), progress(false)).await);
        assert!(store.save(&"a".into(), None, progress(true)).await);
        assert!(store.save(&"b".into(), Some(alloc("b")), progress(false)).await);
        let told = AllocClientUpdate { id: "a".into(), client_description: "x".into(), ..Default::default() };
        assert!(store.told(Arc::new(told.clone())).await);
        assert!(store.forget(&"b".into()).await);
        end.request();
        task.await.unwrap();
        assert!(!store.save(&"c".into(), Some(alloc("c")), progress(false)).await, "closed");
        let (_store, end, task, found) = open(&path).await;
        let [a] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((a.alloc.id.as_str(), a.alloc.name.as_str()), ("a", "job.g[a]"));
        assert!(a.progress.as_ref().unwrap().saved.stopping);
        assert_eq!(a.told, Some(told));
        end.request();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_is_killed_loses_nothing_that_was_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let (store, _end, task, _) = open(&path).await;
        assert!(store.save(&"a".into(), Some(alloc("a")), progress(false)).await);
        // The file as a killed process leaves it: without goodbye, without flush.
        let copy = dir.path().join("copy.redb");
        std::fs::copy(&path, &copy).unwrap();
        task.abort();
        let (_, _, _, found) = open(&copy).await;
        assert_eq!(found.len(), 1);
    }

    #[tokio::test]
    async fn a_second_agent_on_the_same_file_is_refused_restore_13() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let (_store, _end, _task, _) = open(&path).await;
        let second = tokio::task::spawn_blocking(move || Store::open(&path).map(drop)).await.unwrap();
        assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    }

    #[tokio::test]
    async fn a_damaged_file_is_set_aside_and_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let (store, end, task, _) = open(&path).await;
        store.save(&"a".into(), Some(alloc("a")), progress(false)).await;
        end.request();
        task.await.unwrap();
        let len = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![0x5a; usize::try_from(len).unwrap()]).unwrap();
        let (store, _end, _task, found) = open(&path).await;
        assert!(found.is_empty());
        assert!(store.save(&"b".into(), Some(alloc("b")), progress(false)).await);
        assert!(path.with_extension("damaged").exists());
    }
}
