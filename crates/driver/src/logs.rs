//! Reading a task's rotated output, and following it.
//!
//! The files `<task>.<stream>.<n>` are read as one text, in order. A reader is a machine without waiting:
//! [`LogReader::step`] gives a frame, says that there is nothing now, or that this is the end; [`LogReader::next`]
//! waits between steps. Files vanish under a reader (rotation): it goes on with the closest one left.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::beneath::{BeneathError, Root};
use crate::rotate::number_of;

/// Bytes of one frame at most.
pub const FRAME_BYTES: usize = 64 << 10;
/// How often a follower looks for more.
pub const SCAN_PERIOD: Duration = Duration::from_millis(100);
const LOG_DIR: &str = "alloc/logs";

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("no output of that stream")]
    NotFound,
    #[error("unknown stream {0:?}: must be stdout or stderr")]
    BadStream(String),
    #[error(transparent)]
    Path(#[from] BeneathError),
    #[error("failed to read logs")]
    Io(#[from] io::Error),
}

/// A piece of output. `offset` is the position in the file after the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub offset: u64,
    pub data: Vec<u8>,
    pub file: String,
    pub file_event: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Start,
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Frame(Frame),
    /// Nothing now; following, so more may come.
    Idle,
    End,
}

/// A place in a task's output.
#[derive(Debug)]
pub struct LogReader {
    root: Root,
    stem: String,
    follow: bool,
    /// Where a reader that does not follow ends: the newest file at its start.
    last: u64,
    index: u64,
    offset: u64,
    file: Option<File>,
    /// A newer file was seen: this one gets one more read.
    leaving: bool,
}

impl LogReader {
    /// `alloc_dir` is the allocation's directory; `offset` counts from `origin`, clamped to what there is.
    pub fn open(
        alloc_dir: &Path,
        task: &str,
        stream: &str,
        follow: bool,
        origin: Origin,
        offset: u64,
    ) -> Result<Self, LogError> {
        if !matches!(stream, "stdout" | "stderr") {
            return Err(LogError::BadStream(stream.to_owned()));
        }
        if task.contains('/') {
            return Err(LogError::NotFound);
        }
        let root = Root::open(alloc_dir)?;
        let stem = format!("{task}.{stream}");
        let files = sizes(&root, &stem)?;
        let Some(last) = files.last().map(|f| f.0) else { return Err(LogError::NotFound) };
        let (index, offset) = match origin {
            Origin::Start => from_start(&files, offset),
            Origin::End => from_end(&files, offset),
        };
        Ok(Self { root, stem, follow, last, index, offset, file: None, leaving: false })
    }

    /// The next frame, if there is one now. Reads at most [`FRAME_BYTES`].
    pub fn step(&mut self) -> Result<Step, LogError> {
        // One turn per file at most, plus one for each that vanished meanwhile.
        for _ in 0..1000 {
            if let Some(frame) = self.read()? {
                return Ok(Step::Frame(frame));
            }
            if !self.follow && self.index >= self.last {
                return Ok(Step::End);
            }
            let Some(next) = sizes(&self.root, &self.stem)?.into_iter().map(|f| f.0).find(|n| *n > self.index) else {
                return Ok(Step::Idle);
            };
            // What was written between our last read and the appearance of the next file comes first.
            if std::mem::replace(&mut self.leaving, true) {
                (self.index, self.offset, self.file, self.leaving) = (next, 0, None, false);
            }
        }
        Ok(Step::Idle)
    }

    /// Waits for the next frame. `None` at the end.
    ///
    /// # Errors
    /// When the directory or a file cannot be read any more.
    pub async fn next(mut self) -> Result<Option<(Frame, Self)>, LogError> {
        loop {
            let (step, back) = tokio::task::spawn_blocking(move || (self.step(), self))
                .await
                .map_err(|e| io::Error::other(e.to_string()))?;
            self = back;
            match step? {
                Step::Frame(frame) => return Ok(Some((frame, self))),
                Step::End => return Ok(None),
                Step::Idle => tokio::time::sleep(SCAN_PERIOD).await,
            }
        }
    }

    fn read(&mut self) -> Result<Option<Frame>, LogError> {
        let name = format!("{}.{}", self.stem, self.index);
        if self.file.is_none() {
            match self.root.open_file(&format!("{LOG_DIR}/{name}")) {
                Ok(file) => self.file = Some(file),
                Err(BeneathError::NotFound | BeneathError::Special(_) | BeneathError::IsDirectory(_)) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let Some(file) = &self.file else { return Ok(None) };
        let path = format!("{LOG_DIR}/{name}");
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
            let file_event = "file truncated".to_owned();
            return Ok(Some(Frame { offset: 0, data: Vec::new(), file: path, file_event }));
        }
        let mut data = vec![0; FRAME_BYTES];
        let read = file.read_at(&mut data, self.offset)?;
        if read == 0 {
            return Ok(None);
        }
        data.truncate(read);
        self.offset += read as u64;
        self.leaving = false;
        Ok(Some(Frame { offset: self.offset, data, file: path, file_event: String::new() }))
    }
}

/// Number and size of each file, in order.
fn sizes(root: &Root, stem: &str) -> Result<Vec<(u64, u64)>, LogError> {
    let entries = match root.list(LOG_DIR) {
        Err(BeneathError::NotFound) => return Err(LogError::NotFound),
        other => other?,
    };
    let numbered = entries.iter().filter_map(|e| Some((number_of(&e.name, stem)?, e.size)));
    let mut found: Vec<_> = numbered.collect();
    found.sort_unstable();
    Ok(found)
}

fn from_start(files: &[(u64, u64)], mut offset: u64) -> (u64, u64) {
    for (at, (index, size)) in files.iter().enumerate() {
        if offset <= *size && (offset < *size || at + 1 == files.len()) || at + 1 == files.len() {
            return (*index, offset.min(*size));
        }
        offset -= size;
    }
    (0, 0)
}

fn from_end(files: &[(u64, u64)], mut offset: u64) -> (u64, u64) {
    for (index, size) in files.iter().rev() {
        if offset <= *size {
            return (*index, size - offset);
        }
        offset -= size;
    }
    (files.first().map_or(0, |f| f.0), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    fn alloc(files: &[(u64, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(LOG_DIR)).unwrap();
        for (index, text) in files {
            fs::write(path(&dir, *index), text).unwrap();
        }
        dir
    }

    fn path(dir: &tempfile::TempDir, index: u64) -> std::path::PathBuf {
        dir.path().join(LOG_DIR).join(format!("web.stdout.{index}"))
    }

    fn read(dir: &tempfile::TempDir, origin: Origin, offset: u64) -> String {
        let mut reader = LogReader::open(dir.path(), "web", "stdout", false, origin, offset).unwrap();
        let mut text = Vec::new();
        loop {
            match reader.step().unwrap() {
                Step::Frame(frame) => text.extend(frame.data),
                Step::End => return String::from_utf8(text).unwrap(),
                Step::Idle => panic!("idle without follow"),
            }
        }
    }

    fn drain(reader: &mut LogReader) -> String {
        let mut text = Vec::new();
        while let Step::Frame(frame) = reader.step().unwrap() {
            text.extend(frame.data);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn an_offset_counts_over_all_files_and_is_clamped_logs_09_logs_10_logs_11() {
        let dir = alloc(&[(3, "abc"), (4, "def"), (7, "gh")]);
        assert_eq!(read(&dir, Origin::Start, 0), "abcdefgh");
        assert_eq!(read(&dir, Origin::Start, 4), "efgh");
        assert_eq!(read(&dir, Origin::Start, 3), "defgh");
        assert_eq!(read(&dir, Origin::Start, 99), "");
        assert_eq!(read(&dir, Origin::End, 0), "");
        assert_eq!(read(&dir, Origin::End, 1), "h");
        assert_eq!(read(&dir, Origin::End, 4), "efgh");
        assert_eq!(read(&dir, Origin::End, 999), "abcdefgh");
    }

    #[test]
    fn a_follower_misses_nothing_across_rotation_logs_12() {
        let dir = alloc(&[(0, "one\n")]);
        let mut reader = LogReader::open(dir.path(), "web", "stdout", true, Origin::Start, 0).unwrap();
        assert_eq!(drain(&mut reader), "one\n");
        let mut first = fs::OpenOptions::new().append(true).open(path(&dir, 0)).unwrap();
        first.write_all(b"two\n").unwrap();
        fs::write(path(&dir, 1), "three\n").unwrap();
        assert_eq!(drain(&mut reader), "two\nthree\n");
        fs::remove_file(path(&dir, 0)).unwrap();
        fs::remove_file(path(&dir, 1)).unwrap();
        fs::write(path(&dir, 5), "four\n").unwrap();
        assert_eq!(drain(&mut reader), "four\n");
        fs::write(path(&dir, 5), "x").unwrap();
        assert!(matches!(reader.step().unwrap(), Step::Frame(f) if f.file_event == "file truncated"));
        assert_eq!(drain(&mut reader), "x");
    }

    #[tokio::test]
    async fn a_follower_waits_for_what_is_written_later() {
        let dir = alloc(&[(0, "")]);
        let reader = LogReader::open(dir.path(), "web", "stdout", true, Origin::End, 0).unwrap();
        let next = tokio::spawn(reader.next());
        fs::write(path(&dir, 0), "late\n").unwrap();
        let limit = Duration::from_secs(10);
        let (frame, _) = tokio::time::timeout(limit, next).await.unwrap().unwrap().unwrap().unwrap();
        assert_eq!(
            (frame.data.as_slice(), frame.offset, frame.file.as_str()),
            (&b"late\n"[..], 5, "alloc/logs/web.stdout.0")
        );
    }

    #[test]
    fn what_is_not_there_is_not_found_logs_14_logs_16() {
        let dir = alloc(&[(0, "x")]);
        let open = |task: &str, stream: &str| LogReader::open(dir.path(), task, stream, false, Origin::Start, 0);
        assert!(matches!(open("web", "stderr"), Err(LogError::NotFound)));
        assert!(matches!(open("other", "stdout"), Err(LogError::NotFound)));
        assert!(matches!(open("../web", "stdout"), Err(LogError::NotFound)));
        assert!(matches!(open("web", "both"), Err(LogError::BadStream(_))));
    }

    #[test]
    fn a_planted_symlink_is_not_read() {
        let dir = alloc(&[]);
        fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path(&dir, 0)).unwrap();
        let mut reader = LogReader::open(dir.path(), "web", "stdout", false, Origin::Start, 0).unwrap();
        assert!(matches!(reader.step(), Err(LogError::Path(BeneathError::Escapes))));
    }
}
