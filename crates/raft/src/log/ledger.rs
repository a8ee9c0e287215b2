//! Where log entries rest: a redb file with one row per append batch.
//!
//! Tables: `rows` maps the index of a row's first entry to the row (see [`crate::codec`]); `marks`
//! holds the last purged and the last known committed log id. Rows follow each other without a gap
//! or overlap; a row may begin with entries that are purged already, and readers skip them.
//!
//! redb hands back a flipped byte silently, so every row and mark carries a CRC32C and opening reads
//! all of them. redb also falls back to its previous commit when the latest one is damaged after a
//! crash, which would lose acknowledged entries: [`Witness`] notices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::codec::{decode_row, encode_row, entry_bytes};
use crate::contract::Error;
use crate::types::{Entry, LogId};

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
const MARKS: TableDefinition<&str, &[u8]> = TableDefinition::new("marks");
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
/// Half of it is for what a commit writes: a page that has no room there is written at once, and read again.
const REDB_CACHE_BYTES: usize = 16 << 20;
/// A node started again in place may find its predecessor's handle not yet closed.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// One change to the log. A slice of them is committed as a whole, in order.
pub(crate) enum Write {
    /// Entries that follow the last one (or the purged one) without a gap: one row.
    Append(Vec<Entry>),
    /// Removes every entry after this index; all of them when there is none.
    TruncateAfter(Option<u64>),
    /// Removes the entries up to this one and remembers it.
    Purge(LogId),
    Committed(LogId),
}

/// Durable storage of log entries, driven by one writer and any number of readers.
pub(crate) trait Ledger: Send + Sync + 'static {
    /// Applies all writes durably, or none.
    fn commit(&self, writes: &[Write]) -> io::Result<()>;

    /// Entries of `from..to` in order, as many as fit in `bytes_max` but at least one if there is.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>>;
}

/// What a log held when it was opened.
#[derive(Default)]
pub(crate) struct Opened {
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub committed: Option<LogId>,
}

pub(crate) struct RedbLedger {
    db: Database,
    witness: Witness,
}

fn fault(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(e)
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Damage is an answer of its own; every other failure may pass.
pub(crate) fn classify(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::Damaged { what: e.to_string() },
        _ => Error::Storage(e),
    }
}

/// redb asserts its own structure: on damaged pages it may panic, which must not pass for success.
fn guarded<T>(what: &str, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(damaged(format!("{what}: the database panicked"))))
}

fn encode_mark(id: &LogId) -> Vec<u8> {
    let mut out = vec![0u8; 4];
    out.extend_from_slice(&id.leader_id.term.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode_mark(bytes: &[u8]) -> Option<LogId> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let crc = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    (crc32c::crc32c(&bytes[4..]) == crc).then(|| crate::types::log_id(word(4), word(12)))
}

impl RedbLedger {
    /// Opens or creates the log and reads all of it.
    ///
    /// # Errors
    /// `Damaged` when anything stored does not check out, `Storage` when the file cannot be used.
    pub fn open(dir: &Path) -> Result<(Self, Opened), Error> {
        let path = dir.join("log.redb");
        let db = guarded("opening the log", || open_database(&path)).map_err(classify)?;
        let witness = Witness::open(&dir.join("log.tail")).map_err(Error::Storage)?;
        let ledger = Self { db, witness };
        let opened = guarded("reading the log", || ledger.verify()).map_err(classify)?;
        let last = opened.last.map_or(0, |id| id.index);
        if let Some(seen) = ledger.witness.read().map_err(Error::Storage)?
            && seen > last
        {
            let what = format!("the log ends at {last}, but {seen} was acknowledged");
            return Err(Error::Damaged { what });
        }
        Ok((ledger, opened))
    }

    fn verify(&self) -> io::Result<Opened> {
        let txn = self.db.begin_read().map_err(fault)?;
        let marks = txn.open_table(MARKS).map_err(fault)?;
        let mark = |name: &str| -> io::Result<Option<LogId>> {
            let Some(value) = marks.get(name).map_err(fault)? else { return Ok(None) };
            let id =
                decode_mark(value.value()).ok_or_else(|| damaged(format!("the {name} mark fails its checksum")))?;
            Ok(Some(id))
        };
        let mut opened = Opened { purged: mark(PURGED)?, last: mark(PURGED)?, committed: mark(COMMITTED)? };
        let rows = txn.open_table(ROWS).map_err(fault)?;
        let mut follows: Option<LogId> = None;
        for row in rows.iter().map_err(fault)? {
            let (key, value) = row.map_err(fault)?;
            follows = Some(check_row(key.value(), value.value(), follows)?);
            if key.value() > opened.last.map_or(0, |id| id.index + 1) && opened.last == opened.purged {
                return Err(damaged(format!("entries before {} are missing", key.value())));
            }
            opened.last = opened.last.max(follows);
        }
        // The mark may be ahead of a tail that was never acknowledged here.
        opened.committed = opened.committed.min(opened.last);
        Ok(opened)
    }

    fn apply(txn: &WriteTransaction, write: &Write) -> io::Result<()> {
        let mut rows = txn.open_table(ROWS).map_err(fault)?;
        let mut marks = txn.open_table(MARKS).map_err(fault)?;
        match write {
            Write::Append(entries) => {
                let Some(first) = entries.first() else { return Ok(()) };
                rows.insert(first.log_id.index, encode_row(entries).as_slice()).map_err(fault)?;
            }
            Write::TruncateAfter(None) => rows.retain(|_, _| false).map_err(fault)?,
            Write::TruncateAfter(Some(keep)) => {
                rows.retain_in(keep + 1.., |_, _| false).map_err(fault)?;
                if let Some((key, entries)) = last_row_up_to(&rows, *keep)? {
                    let kept: Vec<Entry> = entries.into_iter().filter(|e| e.log_id.index <= *keep).collect();
                    rows.insert(key, encode_row(&kept).as_slice()).map_err(fault)?;
                }
            }
            Write::Purge(id) => {
                let mut whole = id.index + 1;
                if let Some((key, entries)) = last_row_up_to(&rows, id.index)?
                    && entries.last().is_some_and(|e| e.log_id.index > id.index)
                {
                    whole = key;
                }
                rows.retain_in(..whole, |_, _| false).map_err(fault)?;
                marks.insert(PURGED, encode_mark(id).as_slice()).map_err(fault)?;
            }
            Write::Committed(id) => {
                marks.insert(COMMITTED, encode_mark(id).as_slice()).map_err(fault)?;
            }
        }
        Ok(())
    }
}

fn open_database(path: &Path) -> io::Result<Database> {
    let until = Instant::now() + LOCK_WAIT;
    let db = loop {
        match Database::builder().set_cache_size(REDB_CACHE_BYTES).create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(DatabaseError::Storage(redb::StorageError::Corrupted(e))) => {
                return Err(damaged(format!("the log database is corrupted: {e}")));
            }
            Err(DatabaseError::Storage(redb::StorageError::Io(e))) => return Err(e),
            other => break other.map_err(fault)?,
        }
    };
    let txn = db.begin_write().map_err(fault)?;
    txn.open_table(ROWS).map_err(fault)?;
    txn.open_table(MARKS).map_err(fault)?;
    txn.commit().map_err(fault)?;
    Ok(db)
}

/// Checks one row and that it continues what came before; the id of its last entry.
fn check_row(key: u64, value: &[u8], follows: Option<LogId>) -> io::Result<LogId> {
    let entries = decode_row(Bytes::copy_from_slice(value)).map_err(|e| damaged(format!("log row {key}: {e}")))?;
    let mut before = follows;
    for (at, entry) in (key..).zip(&entries) {
        let gap =
            entry.log_id.index != at || before.is_some_and(|b| entry.log_id.index != b.index + 1 || entry.log_id < b);
        if gap {
            return Err(damaged(format!("log row {key} does not follow the row before it")));
        }
        before = Some(entry.log_id);
    }
    match before {
        Some(last) if !entries.is_empty() => Ok(last),
        _ => Err(damaged(format!("log row {key} is empty"))),
    }
}

fn last_row_up_to(rows: &impl ReadableTable<u64, &'static [u8]>, index: u64) -> io::Result<Option<(u64, Vec<Entry>)>> {
    let Some(row) = rows.range(..=index).map_err(fault)?.next_back() else { return Ok(None) };
    let (key, value) = row.map_err(fault)?;
    Ok(Some((key.value(), row_entries(key.value(), value.value())?)))
}

fn row_entries(key: u64, value: &[u8]) -> io::Result<Vec<Entry>> {
    decode_row(Bytes::copy_from_slice(value)).map_err(|e| damaged(format!("log row {key}: {e}")))
}

impl Ledger for RedbLedger {
    fn commit(&self, writes: &[Write]) -> io::Result<()> {
        guarded("writing the log", || {
            for write in writes {
                if let Write::TruncateAfter(keep) = write {
                    self.witness.lower(keep.unwrap_or(0))?;
                }
            }
            let txn = self.db.begin_write().map_err(fault)?;
            for write in writes {
                Self::apply(&txn, write)?;
            }
            txn.commit().map_err(fault)?;
            let end = writes.iter().rev().find_map(|write| match write {
                Write::Append(entries) => entries.last().map(|e| e.log_id.index),
                _ => None,
            });
            let cut_after = writes
                .iter()
                .rev()
                .take_while(|w| !matches!(w, Write::Append(_)))
                .any(|w| matches!(w, Write::TruncateAfter(_)));
            match end {
                Some(end) if !cut_after => self.witness.raise(end),
                _ => Ok(()),
            }
        })
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        guarded("reading the log", || {
            let txn = self.db.begin_read().map_err(fault)?;
            let rows = txn.open_table(ROWS).map_err(fault)?;
            let first = rows.range(..=from).map_err(fault)?.next_back().transpose().map_err(fault)?;
            let first = first.map_or(from, |(key, _)| key.value());
            let (mut out, mut bytes) = (Vec::new(), 0);
            for row in rows.range(first..to.max(first)).map_err(fault)? {
                let (key, value) = row.map_err(fault)?;
                for entry in row_entries(key.value(), value.value())? {
                    if !(from..to).contains(&entry.log_id.index) {
                        continue;
                    }
                    bytes += entry_bytes(&entry);
                    if bytes > bytes_max && !out.is_empty() {
                        return Ok(out);
                    }
                    out.push(entry);
                }
            }
            Ok(out)
        })
    }
}

/// Remembers outside the database how far the log reached.
///
/// Written after each commit without a flush of its own: it survives the death of the process, and
/// after a power loss it is at most too low. Only a truncation lowers it, flushed and before the
/// database follows. So a log that ends below it has lost acknowledged entries.
struct Witness {
    file: File,
}

impl Witness {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file })
    }

    fn read(&self) -> io::Result<Option<u64>> {
        let mut bytes = [0u8; 12];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let crc = u32::from_le_bytes(bytes[8..].try_into().expect("four bytes"));
        let index = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        Ok((crc32c::crc32c(&bytes[..8]) == crc).then_some(index))
    }

    fn raise(&self, index: u64) -> io::Result<()> {
        let mut bytes = [0u8; 12];
        bytes[..8].copy_from_slice(&index.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..8]);
        bytes[8..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    fn lower(&self, index: u64) -> io::Result<()> {
        if self.read()?.is_none_or(|seen| seen > index) {
            self.raise(index)?;
            self.file.sync_data()?;
        }
        Ok(())
    }
}
