//! A state server's data, looked at while it does not run.
//!
//! The directory's lock is taken as a server takes it, so neither disturbs the other; the log is copied aside by
//! [`raft::Rest`]. Nothing is written. What could be used by whoever sees it, keys and secrets, is not shown.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use fsm::{Envelope, State};
use model::Index;
use raft::{LogEntry, Rest, What};
use serde_json::{Map, Value, json};

use crate::format;
use crate::server::LOCK;

/// Fields that are not shown, wherever they are.
const SECRET: &[&str] = &["secret_id", "SecretID", "wrapped", "wrapping_key", "payload", "Payload"];
/// Sections of a state that are for state servers only.
const HIDDEN: &[&str] = &["key_material", "requests"];

/// Why there is nothing to be shown.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("{0} holds no data of a server: name an agent's data directory")]
    NotThere(PathBuf),
    #[error("a server is running on {0}: stop it first")]
    Running(PathBuf),
    #[error("{0}")]
    Format(String),
    #[error("{path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: String },
}

/// The data of one server.
pub struct Data {
    raft_dir: PathBuf,
    format: u32,
    rest: Rest,
    /// No server starts while this is held.
    _lock: File,
}

impl Data {
    /// Finds the data beneath an agent's data directory, or a server's own.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub fn open(path: &Path) -> Result<Self, OfflineError> {
        let homes = [path.join("server/state"), path.join("state"), path.to_owned()];
        let home = homes.into_iter().find(|home| home.join("raft").is_dir());
        let home = home.ok_or_else(|| OfflineError::NotThere(path.to_owned()))?;
        let raft_dir = home.join("raft");
        let unreadable = |why: String| OfflineError::Unreadable { path: raft_dir.clone(), why };
        let lock = File::options().read(true).open(home.join(LOCK)).map_err(|e| unreadable(e.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OfflineError::Running(home)),
            Err(TryLockError::Error(error)) => return Err(unreadable(error.to_string())),
        }
        let format = format::found(&raft_dir).map_err(OfflineError::Format)?;
        let rest = Rest::look(&raft_dir).map_err(|e| unreadable(e.to_string()))?;
        Ok(Self { raft_dir, format, rest, _lock: lock })
    }

    /// What there is, in a few words each.
    pub fn info(&self) -> Vec<(&'static str, String)> {
        let rest = &self.rest;
        let log =
            if rest.last > rest.purged { format!("{} to {}", rest.purged + 1, rest.last) } else { "none".to_owned() };
        vec![
            ("Path", self.raft_dir.display().to_string()),
            ("Format", self.format.to_string()),
            ("Server ID", rest.id.map(|id| id.to_string()).unwrap_or_default()),
            ("Term", rest.term.to_string()),
            ("Log Entries", log),
            ("Last Log Term", rest.last_term.to_string()),
            ("Known Committed", rest.committed.to_string()),
            ("Snapshot Index", rest.snapshot.to_string()),
        ]
    }

    /// Writes every entry as JSON, one list.
    ///
    /// # Errors
    /// An entry cannot be read, or written.
    pub fn logs(&self, out: &mut dyn Write, pretty: bool) -> Result<(), OfflineError> {
        let mut first = true;
        let shown = self.rest.entries(0, u64::MAX, |entry| {
            out.write_all(if first { b"[\n" } else { b",\n" })?;
            first = false;
            let value = shown(&entry);
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            out.write_all(&text?)
        });
        let ended = shown.and_then(|()| out.write_all(if first { b"[]\n" } else { b"\n]\n" }));
        ended.map_err(|e| self.unreadable(&e))
    }

    /// The state at an index: the snapshot with the entries after it, up to what is known to be committed, or up to
    /// `last` if that is said.
    ///
    /// # Errors
    /// Snapshot or log are damaged, or the index is not there.
    pub fn state(&self, last: Option<u64>) -> Result<Value, OfflineError> {
        let mut state = match self.rest.snapshot().map_err(|e| self.unreadable(&e))? {
            Some(content) => fsm::read_snapshot(BufReader::new(content)).map_err(|e| self.unreadable(&e))?,
            None => State::default(),
        };
        let last = last.unwrap_or(self.rest.committed);
        if last < self.rest.snapshot {
            let why = format!("the state at {last} is gone, the snapshot is of {}", self.rest.snapshot);
            return Err(self.unreadable(&why));
        }
        let applied = self.rest.entries(self.rest.snapshot + 1, last, |entry| {
            if let What::Command(bytes) = &entry.what
                && let Ok(envelope) = serde_json::from_slice::<Envelope>(bytes)
            {
                let index = Index(entry.index + state.offset());
                drop(fsm::apply(&mut state, index, &envelope));
            }
            Ok(())
        });
        applied.map_err(|e| self.unreadable(&e))?;
        tables(&state).map_err(|e| self.unreadable(&e))
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> OfflineError {
        OfflineError::Unreadable { path: self.raft_dir.clone(), why: why.to_string() }
    }
}

fn shown(entry: &LogEntry) -> Value {
    let (kind, what) = match &entry.what {
        What::Blank => ("Blank", Value::Null),
        What::Membership(words) => ("Membership", json!(words)),
        What::Command(bytes) => match serde_json::from_slice::<Value>(bytes) {
            Ok(mut value) => {
                redact(&mut value);
                ("Command", value)
            }
            Err(error) => ("Command", json!(format!("{} bytes that are no command: {error}", bytes.len()))),
        },
    };
    json!({ "Index": entry.index, "Term": entry.term, "Type": kind, "Content": what })
}

/// The rows of a state by table, as its snapshot has them.
fn tables(state: &State) -> io::Result<Value> {
    let mut bytes = Vec::new();
    fsm::write_snapshot(state, &mut bytes, None).map_err(io::Error::other)?;
    let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice::<Value>);
    let header = lines.next().transpose()?.unwrap_or_default();
    let (mut all, mut rows) = (Map::new(), Vec::new());
    all.insert("Index".to_owned(), header["index"].clone());
    for line in lines {
        let mut line = line?;
        let section = line.get("section").and_then(Value::as_str).map(str::to_owned);
        match section.filter(|name| line.get("sum").is_some() && header["counts"][name] == rows.len()) {
            Some(name) => {
                let rows = std::mem::take(&mut rows);
                if !HIDDEN.contains(&name.as_str()) && !rows.is_empty() {
                    all.insert(name, rows.into());
                }
            }
            None => {
                redact(&mut line);
                rows.push(line);
            }
        }
    }
    Ok(all.into())
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_empty = value.as_str().is_some_and(str::is_empty) || value.is_null();
                if SECRET.contains(&name.as_str()) && !is_empty {
                    *value = json!("<redacted>");
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_are_and_nothing_else_is() {
        let mut value = json!({"a": [{"SecretID": "s", "ID": "i"}], "wrapping_key": "k", "secret_id": ""});
        redact(&mut value);
        let hidden = "<redacted>";
        assert_eq!(value, json!({"a": [{"SecretID": hidden, "ID": "i"}], "wrapping_key": hidden, "secret_id": ""}));
    }

    #[test]
    fn what_is_no_server_s_data_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Data::open(dir.path()), Err(OfflineError::NotThere(_))));
        std::fs::create_dir_all(dir.path().join("server/state/raft")).unwrap();
        assert!(matches!(Data::open(dir.path()), Err(OfflineError::Unreadable { .. })));
    }
}
