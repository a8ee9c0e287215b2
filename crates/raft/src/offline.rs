//! What does a directory hold whose node does not run?
//!
//! The log is copied aside and read there: opening a database writes to it, and who only looks changes nothing.
//! Snapshots are read where they are. The caller holds whatever lock keeps a node from starting meanwhile.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::EntryPayload;

use crate::contract::{Error, PeerId};
use crate::log::ledger::{Ledger as _, RedbLedger, classify};
use crate::log::vote::VoteFile;
use crate::snapshot::format::SnapshotReader;
use crate::start::stored_id;
use crate::types::{LogId, index_of};

/// Entries are read in pieces of about so much.
const PIECE_BYTES: usize = 4 << 20;
const LOG: &str = "log.redb";
/// Tells a log that lost its end.
const TAIL: &str = "log.tail";

/// A node at rest.
pub struct Rest {
    pub id: Option<PeerId>,
    /// The term it last voted in.
    pub term: u64,
    /// Index of the last entry that is gone, since a snapshot holds it; 0: none.
    pub purged: u64,
    /// Index of the last entry; 0: none.
    pub last: u64,
    pub last_term: u64,
    /// Index up to which it knew entries to be committed.
    pub committed: u64,
    /// Index of the snapshot; 0: none.
    pub snapshot: u64,
    snapshot_file: Option<PathBuf>,
    ledger: RedbLedger,
    _copy: Copy,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// What a new leader begins with.
    Blank,
    Command(Bytes),
    /// Who the members are, in words.
    Membership(String),
}

impl Rest {
    /// # Errors
    /// There is nothing, or it is not what was written.
    pub fn look(dir: &Path) -> Result<Self, Error> {
        if !dir.join(LOG).is_file() {
            let source = io::Error::new(io::ErrorKind::NotFound, format!("{} holds no log", dir.display()));
            return Err(Error::Storage(source));
        }
        let copy = Copy::of(dir).map_err(Error::Storage)?;
        let (ledger, opened) = RedbLedger::open(&copy.0)?;
        let vote = VoteFile::new(dir).load().map_err(classify)?;
        let (snapshot_file, meta) = match newest_snapshot(&dir.join("snapshots")).map_err(classify)? {
            Some((path, at)) => (Some(path), Some(at)),
            None => (None, None),
        };
        Ok(Self {
            id: stored_id(dir)?,
            term: vote.map_or(0, |vote| vote.leader_id.term),
            purged: index_of(&opened.purged),
            last: index_of(&opened.last),
            last_term: opened.last.map_or(0, |id| id.leader_id.term),
            committed: index_of(&opened.committed),
            snapshot: index_of(&meta),
            snapshot_file,
            ledger,
            _copy: copy,
        })
    }

    /// Shows every entry of `from..=to` that is there, in order, until one of them ends it.
    ///
    /// # Errors
    /// An entry cannot be read, or what `show` says.
    pub fn entries(&self, from: u64, to: u64, mut show: impl FnMut(LogEntry) -> io::Result<()>) -> io::Result<()> {
        let mut from = from.max(self.purged + 1);
        let end = to.min(self.last).saturating_add(1);
        while from < end {
            let some = self.ledger.read(from, end, PIECE_BYTES)?;
            let Some(last) = some.last() else { return Ok(()) };
            from = last.log_id.index + 1;
            for entry in some {
                let what = match entry.payload {
                    EntryPayload::Blank => What::Blank,
                    EntryPayload::Normal(command) => What::Command(command.0),
                    EntryPayload::Membership(members) => What::Membership(members.to_string()),
                };
                show(LogEntry { index: entry.log_id.index, term: entry.log_id.leader_id.term, what })?;
            }
        }
        Ok(())
    }

    /// The snapshot's content, if there is one.
    ///
    /// # Errors
    /// It is not what was written.
    pub fn snapshot(&self) -> io::Result<Option<impl Read>> {
        let Some(path) = &self.snapshot_file else { return Ok(None) };
        let (_, content) = SnapshotReader::begin(BufReader::new(File::open(path)?))?;
        Ok(Some(content))
    }
}

fn newest_snapshot(dir: &Path) -> io::Result<Option<(PathBuf, LogId)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut newest: Option<(PathBuf, LogId)> = None;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if crate::snapshot::place_of(&name).is_none() {
            continue;
        }
        let (meta, mut content) = SnapshotReader::begin(BufReader::new(File::open(&path)?))?;
        content.drain()?;
        if let Some(at) = meta.last_log_id.filter(|at| newest.as_ref().is_none_or(|(_, other)| other < at)) {
            newest = Some((path, at));
        }
    }
    Ok(newest)
}

/// A copy of the log, removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn of(dir: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let to = std::env::temp_dir().join(format!("raft-look-{}-{at}", std::process::id()));
        // What it holds is for its owner only.
        std::fs::DirBuilder::new().mode(0o700).create(&to)?;
        let copy = Self(to);
        std::fs::copy(dir.join(LOG), copy.0.join(LOG))?;
        if dir.join(TAIL).is_file() {
            std::fs::copy(dir.join(TAIL), copy.0.join(TAIL))?;
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
