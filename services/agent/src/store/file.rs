//! The redb file: tables, opening, one write transaction per batch.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::AllocId;
use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Batch, Stored};

type Rows = TableDefinition<'static, &'static str, &'static [u8]>;
const ALLOCS: Rows = TableDefinition::new("allocs");
const PROGRESS: Rows = TableDefinition::new("progress");
const TOLD: Rows = TableDefinition::new("told");
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const VERSION: u64 = 1;
const CACHE_BYTES: usize = 512 << 10;
/// A predecessor that was just killed may still hold its lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} is in use by another agent")]
    InUse { path: PathBuf },
    #[error("{path} was written by a newer version ({found}, this is {VERSION})")]
    Newer { path: PathBuf, found: u64 },
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("a row cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    db: Database,
    /// The same file again, to flush it: the database itself never does.
    plain: std::fs::File,
    path: PathBuf,
}

impl File {
    /// Opens or creates the file and reads all rows. A damaged file is set aside first.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Stored>), StoreError> {
        match Self::open_guarded(path) {
            Err(StoreError::Damaged { reason, .. }) => {
                let aside = path.with_extension("damaged");
                tracing::error!(path = %path.display(), aside = %aside.display(), reason, "local state is damaged, beginning anew");
                std::fs::rename(path, &aside).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
                Self::open_guarded(path)
            }
            other => other,
        }
    }

    /// redb asserts its own structure: on damaged pages it may panic.
    fn open_guarded(path: &Path) -> Result<(Self, Vec<Stored>), StoreError> {
        let work = || {
            let file = Self::open_once(path)?;
            let stored = file.read()?;
            Ok((file, stored))
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            let reason = "the database panicked".to_owned();
            Err(StoreError::Damaged { path: path.to_owned(), reason })
        })
    }

    fn open_once(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let plain = open().map_err(failed)?;
        let until = Instant::now() + LOCK_WAIT;
        let db = loop {
            let backend = FileBackend::new(open().map_err(failed)?).map_err(|e| damaged(path, e))?;
            match Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Unflushed(backend)) {
                Ok(db) => break db,
                Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::InUse { path: path.to_owned() }),
                // What is no database at all reads as invalid data.
                Err(DatabaseError::Storage(redb::StorageError::Io(e))) if e.kind() != io::ErrorKind::InvalidData => {
                    return Err(failed(e));
                }
                Err(error) => return Err(damaged(path, error)),
            }
        };
        let file = Self { db, plain, path: path.to_owned() };
        file.prepare()?;
        Ok(file)
    }

    /// Whether the file has all that it needs: then it is not written to, for there may be no room.
    fn is_prepared(&self) -> Result<bool, StoreError> {
        let txn = self.db.begin_read().map_err(|e| self.fault(e))?;
        let Ok(meta) = txn.open_table(META) else { return Ok(false) };
        let found = meta.get("version").map_err(|e| self.fault(e))?.map(|v| v.value());
        Ok(found == Some(VERSION) && [ALLOCS, PROGRESS, TOLD].into_iter().all(|table| txn.open_table(table).is_ok()))
    }

    fn prepare(&self) -> Result<(), StoreError> {
        if self.is_prepared()? {
            return Ok(());
        }
        let txn = self.db.begin_write().map_err(|e| self.fault(e))?;
        {
            let mut meta = txn.open_table(META).map_err(|e| self.fault(e))?;
            let found = meta.get("version").map_err(|e| self.fault(e))?.map(|v| v.value());
            match found {
                Some(found) if found > VERSION => return Err(StoreError::Newer { path: self.path.clone(), found }),
                Some(VERSION) => {}
                _ => drop(meta.insert("version", VERSION).map_err(|e| self.fault(e))?),
            }
            for table in [ALLOCS, PROGRESS, TOLD] {
                txn.open_table(table).map_err(|e| self.fault(e))?;
            }
        }
        txn.commit().map_err(|e| self.fault(e))
    }

    fn read(&self) -> Result<Vec<Stored>, StoreError> {
        let txn = self.db.begin_read().map_err(|e| self.fault(e))?;
        let (progress, told) =
            (txn.open_table(PROGRESS).map_err(|e| self.fault(e))?, txn.open_table(TOLD).map_err(|e| self.fault(e))?);
        let mut found = Vec::new();
        for row in txn.open_table(ALLOCS).map_err(|e| self.fault(e))?.iter().map_err(|e| self.fault(e))? {
            let (key, value) = row.map_err(|e| self.fault(e))?;
            let id = key.value();
            let Some(alloc) = decode(id, "allocation", value.value()) else { continue };
            let one = |table: &redb::ReadOnlyTable<&'static str, &'static [u8]>| {
                Ok::<_, StoreError>(table.get(id).map_err(|e| self.fault(e))?.map(|v| v.value().to_vec()))
            };
            let (progress, told) = (one(&progress)?, one(&told)?);
            found.push(Stored {
                alloc,
                progress: progress.and_then(|bytes| decode(id, "progress", &bytes)),
                told: told.and_then(|bytes| decode(id, "acknowledged news", &bytes)),
            });
        }
        Ok(found)
    }

    pub(super) fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let work = || {
            let txn = self.db.begin_write().map_err(|e| self.fault(e))?;
            {
                let mut allocs = txn.open_table(ALLOCS).map_err(|e| self.fault(e))?;
                let mut progress = txn.open_table(PROGRESS).map_err(|e| self.fault(e))?;
                let mut told = txn.open_table(TOLD).map_err(|e| self.fault(e))?;
                for (id, row) in batch {
                    if row.forget {
                        for table in [&mut allocs, &mut progress, &mut told] {
                            table.remove(id.as_str()).map_err(|e| self.fault(e))?;
                        }
                    }
                    self.put(&mut allocs, id, row.alloc.as_deref())?;
                    self.put(&mut progress, id, row.progress.as_deref())?;
                    self.put(&mut told, id, row.told.as_deref())?;
                }
            }
            txn.commit().map_err(|e| self.fault(e))
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            Err(StoreError::Damaged { path: self.path.clone(), reason: "the database panicked".to_owned() })
        })
    }

    fn put(
        &self,
        table: &mut redb::Table<'_, &'static str, &'static [u8]>,
        id: &AllocId,
        value: Option<&impl Serialize>,
    ) -> Result<(), StoreError> {
        let Some(value) = value else { return Ok(()) };
        let bytes = serde_json::to_vec(value)?;
        table.insert(id.as_str(), bytes.as_slice()).map_err(|e| self.fault(e))?;
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.plain.sync_data().map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }

    fn fault(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Io(source) => StoreError::Io { path: self.path.clone(), source },
            redb::Error::PreviousIo => {
                StoreError::Io { path: self.path.clone(), source: io::Error::other("an earlier write failed") }
            }
            other => damaged(&self.path, other),
        }
    }
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

fn decode<T: DeserializeOwned>(id: &str, what: &str, bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::warn!(alloc_id = id, what, %error, "stored row cannot be read, leaving it out"))
        .ok()
}

/// A file whose commits reach the kernel but do not wait for the disk.
#[derive(Debug)]
struct Unflushed(FileBackend);

impl StorageBackend for Unflushed {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
