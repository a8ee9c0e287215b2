//! Reading one file a user names, and following it.
//!
//! ```text
//!   open ─► step: Frame … Idle (following) … Frame("file truncated") … Frame("file deleted") ─► End
//! ```
//!
//! As [`crate::logs::LogReader`], a machine without waiting, with [`FileReader::next`] around it. It keeps the file
//! that was opened: a path that becomes another file is a deletion of this one. Without following it ends at the
//! size the file had when it was opened, so that a file that grows as fast as it is read has an end.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use crate::beneath::{BeneathError, Root};
use crate::logs::{FRAME_BYTES, Frame, LogError, Origin, SCAN_PERIOD, Step};

/// Idle steps between two looks at whether the file is still there.
const LOOK_EVERY: u32 = 5;

/// What part of a file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub origin: Origin,
    /// Bytes from the origin, clamped to what there is.
    pub offset: u64,
    /// `None`: to the end.
    pub limit: Option<u64>,
    pub follow: bool,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { origin: Origin::Start, offset: 0, limit: None, follow: false };
}

/// A place in a file.
#[derive(Debug)]
pub struct FileReader {
    root: Root,
    path: String,
    file: File,
    offset: u64,
    /// Where a reader that does not follow ends.
    end: u64,
    follow: bool,
    idle: u32,
    over: bool,
}

impl FileReader {
    pub fn open(alloc_dir: &Path, path: &str, part: Part) -> Result<Self, BeneathError> {
        let root = Root::open(alloc_dir)?;
        let file = root.open_file(path)?;
        let meta = file.metadata().map_err(|source| BeneathError::Io { path: path.to_owned(), source })?;
        let size = meta.len();
        let offset = match part.origin {
            Origin::Start => part.offset.min(size),
            Origin::End => size.saturating_sub(part.offset),
        };
        let end = part.limit.map_or(size, |limit| offset.saturating_add(limit).min(size));
        let path = path.trim_start_matches('/').to_owned();
        Ok(Self { root, path, file, offset, end, follow: part.follow, idle: 0, over: false })
    }

    /// The first bytes, for telling what kind of content it is.
    pub fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; 512];
        let read = self.file.read_at(&mut head, 0)?;
        head.truncate(read);
        Ok(head)
    }

    /// The next frame, if there is one now. Reads at most [`FRAME_BYTES`].
    pub fn step(&mut self) -> Result<Step, LogError> {
        if self.over {
            return Ok(Step::End);
        }
        if self.follow && self.file.metadata()?.len() < self.offset {
            self.offset = 0;
            return Ok(Step::Frame(self.event("file truncated")));
        }
        let room = if self.follow { u64::MAX } else { self.end.saturating_sub(self.offset) };
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(FRAME_BYTES);
        let mut data = vec![0; room];
        let read = self.file.read_at(&mut data, self.offset)?;
        if read > 0 {
            data.truncate(read);
            self.offset += read as u64;
            self.idle = 0;
            return Ok(Step::Frame(Frame { offset: self.offset, data, file: self.path.clone(), ..Frame::default() }));
        }
        if !self.follow {
            return Ok(Step::End);
        }
        self.idle += 1;
        if self.idle.is_multiple_of(LOOK_EVERY) && !self.is_there() {
            self.over = true;
            return Ok(Step::Frame(self.event("file deleted")));
        }
        Ok(Step::Idle)
    }

    /// Waits for the next frame. `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read any more.
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

    fn event(&self, what: &str) -> Frame {
        Frame { offset: self.offset, data: Vec::new(), file: self.path.clone(), file_event: what.to_owned() }
    }

    /// Whether the path still names this very file.
    fn is_there(&self) -> bool {
        let (Ok(now), Ok(meta)) = (self.root.open_file(&self.path), self.file.metadata()) else { return false };
        now.metadata().is_ok_and(|other| (other.dev(), other.ino()) == (meta.dev(), meta.ino()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn all(dir: &tempfile::TempDir, part: Part) -> String {
        let mut reader = FileReader::open(dir.path(), "/f", part).unwrap();
        let mut text = String::new();
        while let Step::Frame(frame) = reader.step().unwrap() {
            text.push_str(&String::from_utf8(frame.data).unwrap());
        }
        text
    }

    #[test]
    fn exactly_the_part_that_was_asked_for_is_read_fs_07() {
        let (dir, _) = file("0123456789");
        let part = |origin, offset, limit| Part { origin, offset, limit, follow: false };
        assert_eq!(all(&dir, Part::WHOLE), "0123456789");
        assert_eq!(all(&dir, part(Origin::Start, 2, Some(3))), "234");
        assert_eq!(all(&dir, part(Origin::Start, 8, Some(u64::MAX))), "89");
        assert_eq!(all(&dir, part(Origin::Start, 99, None)), "");
        assert_eq!(all(&dir, part(Origin::End, 3, None)), "789");
        assert_eq!(all(&dir, part(Origin::End, 99, None)), "0123456789");
        assert_eq!(all(&dir, part(Origin::Start, 0, Some(0))), "");
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_has_an_end() {
        let (dir, path) = file("ab");
        let mut reader = FileReader::open(dir.path(), "f", Part::WHOLE).unwrap();
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"cd").unwrap();
        let Step::Frame(frame) = reader.step().unwrap() else { panic!("nothing") };
        assert_eq!((frame.data.as_slice(), frame.offset, frame.file.as_str()), (&b"ab"[..], 2, "f"));
        assert_eq!(reader.step().unwrap(), Step::End);
    }

    #[test]
    fn a_truncated_file_begins_again_and_a_deleted_one_ends_fs_10_fs_11() {
        let (dir, path) = file("abc");
        let mut reader = FileReader::open(dir.path(), "f", Part { follow: true, ..Part::WHOLE }).unwrap();
        assert!(matches!(reader.step().unwrap(), Step::Frame(f) if f.data == b"abc"));
        assert_eq!(reader.step().unwrap(), Step::Idle);
        fs::write(&path, "x").unwrap();
        assert!(matches!(reader.step().unwrap(), Step::Frame(f) if f.file_event == "file truncated" && f.offset == 0));
        assert!(matches!(reader.step().unwrap(), Step::Frame(f) if f.data == b"x"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        let last = (0..=LOOK_EVERY).map(|_| reader.step().unwrap()).find(|step| *step != Step::Idle);
        assert!(matches!(last, Some(Step::Frame(f)) if f.file_event == "file deleted"));
        assert_eq!(reader.step().unwrap(), Step::End);
    }
}
