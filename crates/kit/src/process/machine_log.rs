//! How do the lines of the process that keeps a machine's processes come to whoever reads the machine's log?
//!
//! It has no listener. It writes its own lines into a small file ([`Writer`]), and a process that it keeps reads them
//! from there ([`Tail`]) while somebody asks for them. They are few: starts, ends, configuration read again.
//!
//! ```text
//!   keeper ─ line ─► FILE, taken away and begun anew beyond BYTES_MAX      Tail: what is written from now on,
//!                                                                           the old file to its end, then the new
//! ```
//!
//! A file that cannot be written loses lines, and stops nobody.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

/// The file is begun anew when it is longer.
const BYTES_MAX: u64 = 256 << 10;
/// Of the file that says where the log file is.
const POINTER: &str = "where";
/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Between looks at the file.
pub const LOOK: Duration = Duration::from_millis(250);

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Where this process's keeper writes its lines; once.
pub(super) fn set(path: PathBuf) {
    let _ = FILE.set(path);
}

pub(super) fn file() -> Option<&'static Path> {
    FILE.get().map(PathBuf::as_path)
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    timestamp: String,
    level: String,
    message: String,
}

impl Line {
    fn write(&self, json: bool) -> String {
        if json {
            return serde_json::to_string(self).unwrap_or_default() + "\n";
        }
        format!("{} {:>5} steppe: {}\n", self.timestamp, self.level, self.message)
    }
}

/// The keeper's end.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    /// Begins with an empty file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = begin(&path)?;
        Ok(Self { path, file, bytes: 0 })
    }

    /// # Errors
    /// The line is lost.
    pub fn say(&mut self, timestamp: String, level: &str, message: &str) -> io::Result<()> {
        let line = Line { timestamp, level: level.to_owned(), message: message.to_owned() }.write(true);
        if self.bytes > BYTES_MAX {
            self.file = begin(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Says where the keeper's log file is, beside the file of its own lines; nowhere when there is none.
///
/// # Errors
/// It cannot be written.
pub fn point(own: &Path, log_file: Option<&Path>) -> io::Result<()> {
    let path = log_file.map(Path::as_os_str).unwrap_or_default();
    files::replace(&own.with_extension(POINTER), path.as_encoded_bytes(), 0o600)
}

/// The log file that the keeper writes now.
pub(super) fn log_file() -> Option<PathBuf> {
    pointed(file()?)
}

fn pointed(own: &Path) -> Option<PathBuf> {
    let bytes = std::fs::read(own.with_extension(POINTER)).ok().filter(|bytes| !bytes.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// A new file in the place of one that may be there, which readers still have.
fn begin(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().append(true).create_new(true).mode(0o600).open(path),
    }
}

/// A reader's end: what is written from now on.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    level: LevelFilter,
    json: bool,
}

impl Tail {
    pub fn open(path: &Path, level: LevelFilter, json: bool) -> Self {
        let mut file = File::open(path).ok();
        if file.as_mut().is_some_and(|file| file.seek(SeekFrom::End(0)).is_err()) {
            file = None;
        }
        Self { path: path.to_owned(), file, rest: Vec::new(), level, json }
    }

    /// What was written since the last look, as lines for whoever asked.
    pub fn look(&mut self) -> String {
        let mut out = String::new();
        self.drain(&mut out);
        let is_same = |file: &File| {
            let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(&self.path)) else { return true };
            (ours.dev(), ours.ino()) == (there.dev(), there.ino())
        };
        if !self.file.as_ref().is_some_and(is_same) {
            // The old one may have got lines since.
            self.drain(&mut out);
            self.file = File::open(&self.path).ok();
            self.rest.clear();
            self.drain(&mut out);
        }
        out
    }

    fn drain(&mut self, out: &mut String) {
        let Some(file) = &mut self.file else { return };
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = file.read(&mut piece) {
            self.rest.extend_from_slice(&piece[..length]);
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
                if line.level.parse::<LevelFilter>().is_ok_and(|level| level <= self.level) {
                    out.push_str(&line.write(self.json));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_log_file_is_is_said_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("machine.log");
        assert_eq!(pointed(&own), None);
        point(&own, Some(Path::new("/var/log/a b.log"))).unwrap();
        assert_eq!(pointed(&own), Some("/var/log/a b.log".into()));
        point(&own, None).unwrap();
        assert_eq!(pointed(&own), None);
    }

    #[test]
    fn a_reader_gets_each_line_from_then_on_once_also_across_a_file_that_was_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut early = Tail::open(&path, LevelFilter::INFO, false);
        let mut writer = Writer::create(path.clone()).unwrap();
        let mut say = |level: &str, text: &str| writer.say("T".to_owned(), level, text).unwrap();
        say("INFO", "first");
        let mut tail = Tail::open(&path, LevelFilter::INFO, false);
        assert_eq!((early.look(), tail.look()), ("T  INFO steppe: first\n".to_owned(), String::new()));
        let filler = "x".repeat(1 << 10);
        let mut wanted = String::new();
        for n in 0..600 {
            let text = format!("{n} {filler}");
            say("INFO", &text);
            wanted.push_str(&format!("T  INFO steppe: {text}\n"));
            if n == 100 {
                say("DEBUG", "not asked for");
                assert_eq!(tail.look(), std::mem::take(&mut wanted));
            } else if n == 290 || n == 540 {
                // Each time a new file has been begun, once.
                assert_eq!(tail.look(), std::mem::take(&mut wanted));
            }
        }
        assert_eq!(tail.look(), wanted);
        assert!(std::fs::metadata(&path).unwrap().len() <= BYTES_MAX + (2 << 10));
        let mut errors = Tail::open(&path, LevelFilter::ERROR, true);
        say("WARN", "coarser");
        say("ERROR", "bad");
        assert_eq!(errors.look(), "{\"timestamp\":\"T\",\"level\":\"ERROR\",\"message\":\"bad\"}\n");
    }
}
