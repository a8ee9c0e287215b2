//! The vote in a file of its own: replaced as a whole, durable before anybody hears of it.

use std::io;
use std::path::{Path, PathBuf};

use crate::types::Vote;

const MAGIC: &[u8; 8] = b"RAFTVOT1";

pub(crate) struct VoteFile {
    path: PathBuf,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the vote file {what}"))
}

impl VoteFile {
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("vote") }
    }

    /// # Errors
    /// `InvalidData` when the file is not what was written.
    pub fn load(&self) -> io::Result<Option<Vote>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("has no valid head"))?;
        let (crc, body) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("ends too early"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("fails its checksum"));
        }
        serde_json::from_slice(body).map(Some).map_err(|_| damaged("cannot be read"))
    }

    pub fn save(&self, vote: &Vote) -> io::Result<()> {
        let body = serde_json::to_vec(vote)?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&body);
        files::replace(&self.path, &out, 0o644)
    }
}
