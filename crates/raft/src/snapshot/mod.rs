//! Snapshot files of one node: written, received, checked, handed out and removed.
//!
//! ```text
//! building  ─▶ .tmp-<n> ─ fsync ─▶ snap-<term>-<index> ─ fsync dir ─▶ current, the one before removed
//! receiving ─▶ .tmp-<n> ─ verify, fsync ─▶ machine restored ─▶ renamed as above
//! ```
//!
//! Invariants: the previous snapshot stays until the next one is durable under its name; a file is
//! removed only when nobody holds its handle; whatever is found under a temporary name at start is
//! garbage.

pub(crate) mod format;

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use self::format::{SnapshotReader, SnapshotWriter};
use crate::contract::Frozen;
use crate::log::lock;
use crate::types::SnapshotMeta;

const PREFIX: &str = "snap-";
const TMP: &str = ".tmp-";

/// A handle on a snapshot file. The file outlives the handle unless it was given up.
#[derive(Clone, Debug)]
pub struct SnapshotFile(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    given_up: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.given_up.load(Ordering::Relaxed)
            && let Err(e) = std::fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(error = %e, path = %self.path.display(), "snapshot file not removed");
        }
    }
}

impl SnapshotFile {
    fn new(path: PathBuf, given_up: bool) -> Self {
        Self(Arc::new(Held { path, given_up: AtomicBool::new(given_up) }))
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn open(&self) -> io::Result<(SnapshotMeta, SnapshotReader<BufReader<File>>)> {
        SnapshotReader::begin(BufReader::with_capacity(256 << 10, File::open(self.path())?))
    }

    /// Reads the whole file against its checksums.
    pub(crate) fn verify(&self) -> io::Result<SnapshotMeta> {
        let (meta, mut reader) = self.open()?;
        reader.drain()?;
        Ok(meta)
    }
}

/// The snapshots in one directory.
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
    next_tmp: AtomicU64,
}

fn name_of(meta: &SnapshotMeta) -> String {
    let (term, index) = meta.last_log_id.map_or((0, 0), |id| (id.leader_id.term, id.index));
    format!("{PREFIX}{term}-{index}")
}

/// Newest last: by index, then term.
pub(crate) fn place_of(name: &str) -> Option<(u64, u64)> {
    let (term, index) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Some((index.parse().ok()?, term.parse().ok()?))
}

impl SnapshotDir {
    /// Finds the newest snapshot, checks all of it, and removes what is left over from before.
    ///
    /// # Errors
    /// `InvalidData` when the newest snapshot is not what was written.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let (mut found, mut garbage) = (Vec::new(), Vec::new());
        for item in std::fs::read_dir(&dir)? {
            let name = item?.file_name().to_string_lossy().into_owned();
            match place_of(&name) {
                Some(place) => found.push((place, name)),
                None if name.starts_with(TMP) => garbage.push(name),
                None => {}
            }
        }
        found.sort();
        let current = match found.pop() {
            None => None,
            Some((_, name)) => {
                let file = SnapshotFile::new(dir.join(&name), false);
                let meta = file.verify()?;
                if name_of(&meta) != name {
                    let what = format!("the snapshot {name} holds another one");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Some((meta, file))
            }
        };
        garbage.extend(found.into_iter().map(|(_, name)| name));
        for name in garbage {
            std::fs::remove_file(dir.join(name))?;
        }
        Ok(Self { dir, current: Mutex::new(current), next_tmp: AtomicU64::new(0) })
    }

    pub fn current(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        lock(&self.current).clone()
    }

    /// A temporary file that disappears with its handle.
    pub fn temporary(&self) -> SnapshotFile {
        let n = self.next_tmp.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TMP}{}-{n}", std::process::id());
        SnapshotFile::new(self.dir.join(name), true)
    }

    /// Writes a frozen state and makes it the current snapshot. Blocks.
    pub fn write(&self, meta: &SnapshotMeta, frozen: Frozen) -> io::Result<SnapshotFile> {
        let tmp = self.temporary();
        let file = BufWriter::with_capacity(256 << 10, File::create(tmp.path())?);
        let mut writer = SnapshotWriter::begin(file, meta)?;
        frozen(&mut writer)?;
        let file = writer.finish()?.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()?;
        self.adopt(meta, &tmp)
    }

    /// Makes a complete, flushed file the current snapshot, unless a newer one is. Blocks.
    pub fn adopt(&self, meta: &SnapshotMeta, file: &SnapshotFile) -> io::Result<SnapshotFile> {
        let mut current = lock(&self.current);
        if let Some((have, kept)) = &*current
            && (have.last_log_id >= meta.last_log_id || kept.path() == file.path())
        {
            return Ok(if have.last_log_id == meta.last_log_id { kept.clone() } else { file.clone() });
        }
        let path = self.dir.join(name_of(meta));
        std::fs::rename(file.path(), &path)?;
        files::sync_dir(&self.dir)?;
        let adopted = SnapshotFile::new(path, false);
        if let Some((_, old)) = current.replace((meta.clone(), adopted.clone())) {
            old.0.given_up.store(true, Ordering::Relaxed);
        }
        Ok(adopted)
    }
}
