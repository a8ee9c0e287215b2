//! Which images have tasks of this node used? Remembered beside the node's other data, so that an agent that starts
//! again lets go of those that nobody uses any more, after the same delay.
//!
//! The file follows the table of users: an image is in it from its first use until it was let go. A file that
//! cannot be read is none: images then stay until a task uses them again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
/// A file that is longer is not ours.
const BYTES_MAX: u64 = 4 << 20;

/// By image id, the references by which tasks asked for it.
pub(super) type Used = BTreeMap<String, BTreeSet<String>>;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    images: Used,
}

pub(super) struct Memory {
    path: PathBuf,
    /// What the file holds; the lock is held while it is written, so that the last one written is the newest.
    written: Mutex<Used>,
}

impl Memory {
    /// With what is in the file.
    pub fn open(path: PathBuf) -> Self {
        let found = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error, "images used before are not known");
            Used::new()
        });
        Self { path, written: Mutex::new(found) }
    }

    pub fn found(&self) -> Used {
        super::locked(&self.written).clone()
    }

    /// Writes what `now` gives, if it is not what is written.
    pub fn keep(&self, now: impl FnOnce() -> Used) {
        let mut written = super::locked(&self.written);
        let images = now();
        if images == *written {
            return;
        }
        match write(&self.path, &Stored { version: VERSION, images: images.clone() }) {
            Ok(()) => *written = images,
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "used images are not remembered"),
        }
    }
}

fn read(path: &Path) -> Result<Used, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Used::new()),
        Ok(found) if found.len() > BYTES_MAX => return Err("the file is too long".to_owned()),
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if stored.version != VERSION {
        return Err(format!("the file's format {} is not known", stored.version));
    }
    Ok(stored.images)
}

fn write(path: &Path, stored: &Stored) -> std::io::Result<()> {
    files::replace(path, &serde_json::to_vec(stored)?, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_what_cannot_be_read_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.json");
        let used = Used::from([("sha256:1".to_owned(), BTreeSet::from(["a:1".to_owned()]))]);
        let memory = Memory::open(path.clone());
        assert!(memory.found().is_empty());
        memory.keep(|| used.clone());
        assert_eq!(Memory::open(path.clone()).found(), used);
        for bad in ["", "{}", r#"{"version":2,"images":{}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(Memory::open(path.clone()).found().is_empty(), "{bad}");
        }
    }
}
