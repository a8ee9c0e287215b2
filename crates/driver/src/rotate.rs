//! Writing a task's output into numbered files of bounded size: `<stem>.0`, `<stem>.1`, …
//!
//! The highest number is the current file; a new writer appends to it. When the next line does not fit,
//! the writer moves to the next number and removes the oldest files beyond `max_files`. A line longer
//! than a file is split. A file never grows beyond `max_bytes`.
//!
//! The directory belongs to the task, which may put anything there: files are opened beneath the
//! directory's handle without following symlinks, and what is no regular file is stepped over.
//!
//! A write that fails (full disk) loses those bytes and is counted; it never stops the task.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Writer of one stream of one task.
#[derive(Debug)]
pub struct Rotator {
    dir: OwnedFd,
    stem: String,
    max_files: u32,
    max_bytes: u64,
    index: u64,
    size: u64,
    file: Option<File>,
    at_line_start: bool,
    /// Bytes given up because they could not be written.
    pub lost_bytes: u64,
}

impl Rotator {
    /// `stem` is `<task>.stdout` or `<task>.stderr`.
    pub fn open(dir: &Path, stem: &str, max_files: u32, max_bytes: u64) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        let index = numbered(&dir, stem)?.last().copied().unwrap_or(0);
        let stem = stem.to_owned();
        let (max_files, max_bytes) = (max_files.max(1), max_bytes.max(1));
        let mut rotator =
            Self { dir, stem, max_files, max_bytes, index, size: 0, file: None, at_line_start: true, lost_bytes: 0 };
        rotator.open_current()?;
        Ok(rotator)
    }

    /// Takes all of `data`; what cannot be stored is counted in `lost_bytes`.
    pub fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (now, rotate) = self.take(data);
            if now > 0 {
                self.put(&data[..now]);
                data = &data[now..];
            }
            if rotate && let Err(_error) = self.rotate() {
                self.lost_bytes += data.len() as u64;
                return;
            }
        }
    }

    /// The current file's number and size.
    pub fn position(&self) -> (u64, u64) {
        (self.index, self.size)
    }

    /// How many bytes stand after a position that an earlier writer had. Files that are gone count as nothing.
    pub fn bytes_after(&self, index: u64, size: u64) -> u64 {
        if index == self.index {
            return self.size.saturating_sub(size);
        }
        let length = |index: u64| {
            let name = format!("{}.{index}", self.stem);
            let stat = rustix::fs::statat(&self.dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            stat.ok().and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or(0)
        };
        let numbers = numbered(&self.dir, &self.stem).unwrap_or_default();
        let between: u64 = numbers.into_iter().filter(|n| *n > index && *n < self.index).map(length).sum();
        length(index).saturating_sub(size) + between + self.size
    }

    /// How much of `data` goes into the current file, and whether to rotate after that.
    fn take(&self, data: &[u8]) -> (usize, bool) {
        let room = usize::try_from(self.max_bytes.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if data.len() <= room {
            return (data.len(), false);
        }
        if let Some(end) = data[..room].iter().rposition(|b| *b == b'\n') {
            return (end + 1, true);
        }
        let line = data.iter().position(|b| *b == b'\n').map_or(data.len(), |end| end + 1);
        let fits_next = u64::try_from(line).unwrap_or(u64::MAX) <= self.max_bytes;
        if self.at_line_start && self.size > 0 && fits_next { (0, true) } else { (room, true) }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.at_line_start = bytes.last() == Some(&b'\n');
        let Some(file) = self.file.as_mut() else {
            self.lost_bytes += bytes.len() as u64;
            return;
        };
        match file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            Err(_) => self.lost_bytes += bytes.len() as u64,
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        self.index += 1;
        self.open_current()?;
        let oldest_kept = (self.index + 1).saturating_sub(u64::from(self.max_files));
        for index in numbered(&self.dir, &self.stem)?.into_iter().filter(|i| *i < oldest_kept) {
            let name = format!("{}.{index}", self.stem);
            let _ = rustix::fs::unlinkat(&self.dir, name, rustix::fs::AtFlags::empty());
        }
        Ok(())
    }

    /// Opens the file of the current number, or of the next one that is a regular file with room.
    fn open_current(&mut self) -> io::Result<()> {
        const STEPS_MAX: u64 = 1000;
        let mut last = io::Error::other("no free log file number");
        for _ in 0..STEPS_MAX {
            match self.open_index(self.index) {
                Ok((file, size)) if size < self.max_bytes => {
                    (self.file, self.size) = (Some(file), size);
                    self.at_line_start = true;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
                Err(error) => last = error,
            }
            self.index += 1;
        }
        Err(last)
    }

    fn open_index(&self, index: u64) -> io::Result<(File, u64)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let name = format!("{}.{index}", self.stem);
        let file = File::from(open_beneath(&self.dir, &name, flags, 0o644)?);
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok((file, meta.len()))
    }
}

/// Opens `name` in `dir` itself: no symlink is followed anywhere.
fn open_beneath(dir: &OwnedFd, name: &str, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(dir, name, flags, Mode::from_raw_mode(mode), resolve) {
        Err(rustix::io::Errno::NOSYS) => {
            Ok(rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::from_raw_mode(mode))?)
        }
        other => Ok(other?),
    }
}

/// The numbers of the files `<stem>.<n>` in `dir`, in order.
pub(crate) fn numbered(dir: &OwnedFd, stem: &str) -> io::Result<Vec<u64>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::new(listing)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        found.extend(number_of(name, stem));
    }
    found.sort_unstable();
    Ok(found)
}

/// `7` for `web.stdout.7`; exact, so that a sibling task whose name extends this one is left alone.
pub(crate) fn number_of(name: &str, stem: &str) -> Option<u64> {
    let digits = name.strip_prefix(stem)?.strip_prefix('.')?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn contents(dir: &Path, stem: &str) -> Vec<(u64, String)> {
        let mut found: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .flatten()
            .filter_map(|e| {
                let index = number_of(e.file_name().to_str()?, stem)?;
                Some((index, fs::read_to_string(e.path()).ok()?))
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn lines_are_not_torn_and_old_files_go_logs_02_logs_03() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Rotator::open(dir.path(), "t.stdout", 3, 10).unwrap();
        for n in 0..10 {
            log.write(format!("line{n}\n").as_bytes());
        }
        let files = contents(dir.path(), "t.stdout");
        assert_eq!(files.len(), 3);
        assert_eq!(files.last().unwrap(), &(9, "line9\n".to_owned()));
        assert!(files.iter().all(|(_, text)| text.ends_with('\n') && text.len() <= 10));
    }

    #[test]
    fn a_line_longer_than_a_file_is_split_logs_04() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Rotator::open(dir.path(), "t.stdout", 9, 4).unwrap();
        log.write(b"abcdefghij\n");
        let text: String = contents(dir.path(), "t.stdout").into_iter().map(|(_, t)| t).collect();
        assert_eq!(text, "abcdefghij\n");
        assert_eq!(contents(dir.path(), "t.stdout").len(), 3);
    }

    #[test]
    fn a_new_writer_goes_on_in_the_highest_file_logs_05() {
        let dir = tempfile::tempdir().unwrap();
        Rotator::open(dir.path(), "t.stdout", 9, 4).unwrap().write(b"ab\ncd\n");
        Rotator::open(dir.path(), "t.stdout", 9, 4).unwrap().write(b"e");
        assert_eq!(contents(dir.path(), "t.stdout"), [(0, "ab\n".to_owned()), (1, "cd\ne".to_owned())]);
    }

    #[test]
    fn a_planted_symlink_or_pipe_is_never_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("t.stdout.0")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("t.stdout.1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        Rotator::open(dir.path(), "t.stdout", 9, 100).unwrap().write(b"x");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "");
        assert_eq!(fs::read_to_string(dir.path().join("t.stdout.2")).unwrap(), "x");
    }

    #[test]
    fn a_sibling_whose_name_extends_the_tasks_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("t.stdout.x.stdout.0"), "mine").unwrap();
        let mut log = Rotator::open(dir.path(), "t.stdout", 1, 2).unwrap();
        log.write(b"a\nb\nc\n");
        assert!(dir.path().join("t.stdout.x.stdout.0").exists());
        assert_eq!(contents(dir.path(), "t.stdout"), [(2, "c\n".to_owned())]);
    }
}
