//! The one place that opens paths named by users.
//!
//! A [`Root`] is a handle on a directory. Every path is resolved by the kernel beneath it (`openat2` with
//! `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`): `..`, absolute paths and symlinks may move within the
//! directory but never leave it, whatever a task swaps while we look. Older kernels are refused rather
//! than served with a weaker check.
//!
//! Content below a task's `secrets` or `private` directory is refused by the *resolved* place, in any letter
//! case, so a symlink into it does not help; listing those directories is allowed. The supervisor's own
//! directory is as if it were not there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use model::Timestamp;
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Entries a listing holds at most.
pub const ENTRIES_MAX: usize = 10_000;
const PATH_BYTES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    #[error("path escapes the alloc directory")]
    Escapes,
    #[error("no such file or directory")]
    NotFound,
    #[error("reading secret file prohibited: {0}")]
    Secret(String),
    #[error("{0:?} is a directory")]
    IsDirectory(String),
    #[error("{0:?} is not a directory")]
    NotDirectory(String),
    #[error("{0:?} is no regular file")]
    Special(String),
    #[error("path is longer than {PATH_BYTES_MAX} bytes or holds a zero byte")]
    Malformed,
    #[error("more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("failed to read {path:?}")]
    Io { path: String, source: io::Error },
}

/// One file or directory, in the terms of the public file API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    pub size: u64,
    /// As `ls -l` prints it in Go's form: `-rw-r--r--`, `drwxr-xr-x`.
    pub file_mode: String,
    pub mod_time: Timestamp,
}

/// A directory that user-named paths are confined to.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    pub fn open(dir: &Path) -> Result<Self, BeneathError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| explain(e, &dir.to_string_lossy()))?;
        Ok(Self { dir })
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &str) -> Result<File, BeneathError> {
        self.refuse_secret(path)?;
        // NONBLOCK: a planted named pipe must not hang the caller.
        let file = File::from(self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let meta = file.metadata().map_err(|source| BeneathError::Io { path: path.to_owned(), source })?;
        if meta.is_dir() {
            return Err(BeneathError::IsDirectory(path.to_owned()));
        }
        if !meta.is_file() {
            return Err(BeneathError::Special(path.to_owned()));
        }
        self.refuse_secret_place(&file, path)?;
        Ok(file)
    }

    /// Writes a file, with the directories that lead to it. What stands in its place is written over when
    /// it is a regular file, and refused otherwise.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<(), BeneathError> {
        let at = |source: io::Error| BeneathError::Io { path: path.to_owned(), source };
        let relative = relative(path)?;
        let mut dir = PathBuf::new();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            let parent = self.open_at(&dir, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            match rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(explain(error, path)),
            }
            dir.push(part);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let mut file = File::from(self.open_at(&relative, path, flags, Mode::from_raw_mode(0o644))?);
        if !file.metadata().map_err(at)?.is_file() {
            return Err(BeneathError::Special(path.to_owned()));
        }
        io::Write::write_all(&mut file, content).map_err(at)
    }

    pub fn stat(&self, path: &str) -> Result<Entry, BeneathError> {
        let file = File::from(self.resolve(path, OFlags::PATH)?);
        let name = Path::new(path).file_name().map_or_else(|| "/".to_owned(), |n| n.to_string_lossy().into_owned());
        entry_of(&file, name).map_err(|source| BeneathError::Io { path: path.to_owned(), source })
    }

    /// The entries of a directory, by name.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, BeneathError> {
        let at = |source: io::Error| BeneathError::Io { path: path.to_owned(), source };
        let dir = match self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(BeneathError::Io { source, .. }) if source.raw_os_error() == Some(20) => {
                return Err(BeneathError::NotDirectory(path.to_owned()));
            }
            other => other?,
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir).map_err(|e| at(e.into()))? {
            let entry = entry.map_err(|e| at(e.into()))?;
            let raw = entry.file_name();
            let name = raw.to_string_lossy().into_owned();
            if matches!(name.as_str(), "." | "..") || name == crate::supervisor::DIR_NAME {
                continue;
            }
            if found.len() >= ENTRIES_MAX {
                return Err(BeneathError::TooMany);
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // What vanished while we read is not there.
            let Ok(file) = rustix::fs::openat(&dir, raw, flags, Mode::empty()) else { continue };
            found.extend(entry_of(&File::from(file), name).ok());
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, BeneathError> {
        self.open_at(&relative(path)?, path, flags, Mode::empty())
    }

    /// `said` is the path in the caller's words.
    fn open_at(&self, relative: &Path, said: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, BeneathError> {
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: the kernel saw a rename race with `..` and cannot tell; a few tries settle it.
        for _ in 0..8 {
            match rustix::fs::openat2(&self.dir, relative, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(explain(error, said)),
                Ok(fd) => return Ok(fd),
            }
        }
        Err(explain(rustix::io::Errno::AGAIN, said))
    }

    fn refuse_secret(&self, path: &str) -> Result<(), BeneathError> {
        let relative = relative(path)?;
        if is_secret(&relative) { Err(BeneathError::Secret(path.to_owned())) } else { Ok(()) }
    }

    /// The same check by the place the file really has.
    fn refuse_secret_place(&self, file: &File, path: &str) -> Result<(), BeneathError> {
        let place = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}"));
        let (Ok(root), Ok(found)) = (place(self.dir.as_raw_fd()), place(file.as_raw_fd())) else { return Ok(()) };
        match found.strip_prefix(&root) {
            Ok(inner) if is_secret(inner) => Err(BeneathError::Secret(path.to_owned())),
            _ => Ok(()),
        }
    }
}

/// `<task>/secrets/…` and `<task>/private/…`, and the supervisor's directory.
fn is_secret(path: &Path) -> bool {
    let parts: Vec<String> = path.components().map(|c| c.as_os_str().to_string_lossy().to_ascii_lowercase()).collect();
    match parts.as_slice() {
        [first, ..] if first == crate::supervisor::DIR_NAME => true,
        [_, second, _, ..] => second == "secrets" || second == "private",
        _ => false,
    }
}

/// Paths of the public API may start with a slash: it stands for the directory itself.
fn relative(path: &str) -> Result<PathBuf, BeneathError> {
    if path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return Err(BeneathError::Malformed);
    }
    let (mut clean, mut depth) = (PathBuf::from("."), 0_usize);
    for part in Path::new(path).components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                depth = depth.checked_sub(1).ok_or(BeneathError::Escapes)?;
                clean.push("..");
            }
            Component::Normal(name) => {
                depth += 1;
                clean.push(name);
            }
        }
    }
    Ok(clean
        .strip_prefix(".")
        .ok()
        .filter(|p| !p.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf))
}

fn explain(error: rustix::io::Errno, path: &str) -> BeneathError {
    use rustix::io::Errno;
    match error {
        Errno::XDEV => BeneathError::Escapes,
        Errno::NOENT => BeneathError::NotFound,
        other => BeneathError::Io { path: path.to_owned(), source: other.into() },
    }
}

fn entry_of(file: &File, name: String) -> io::Result<Entry> {
    let meta = file.metadata()?;
    let nanos = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
    Ok(Entry {
        name,
        is_dir: meta.is_dir(),
        size: meta.len(),
        file_mode: mode_text(meta.mode()),
        mod_time: Timestamp(nanos),
    })
}

fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => "d",
        0o120_000 => "L",
        0o010_000 => "p",
        0o140_000 => "S",
        0o060_000 => "D",
        0o020_000 => "Dc",
        _ => "",
    };
    let special: String = [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')]
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, c)| *c)
        .collect();
    let mut text = format!("{kind}{special}");
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode & (0o400 >> at) != 0 { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn alloc() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("a");
        for sub in ["alloc/logs", "web/secrets", "web/private", "web/local", ".supervisor"] {
            fs::create_dir_all(at.join(sub)).unwrap();
        }
        fs::write(at.join("web/secrets/key"), "hidden").unwrap();
        fs::write(at.join("web/local/file"), "seen").unwrap();
        fs::write(dir.path().join("outside"), "host").unwrap();
        let root = Root::open(&at).unwrap();
        (dir, root)
    }

    #[test]
    fn a_path_that_climbs_out_is_refused_fs_01() {
        let (_dir, root) = alloc();
        for path in ["../outside", "web/../../outside", "/../outside", "web/local/../../../outside"] {
            assert!(matches!(root.stat(path), Err(BeneathError::Escapes)), "{path}");
            assert!(matches!(root.open_file(path), Err(BeneathError::Escapes)), "{path}");
            assert!(matches!(root.list(path), Err(BeneathError::Escapes)), "{path}");
        }
    }

    #[test]
    fn a_symlink_out_of_the_directory_is_refused_fs_02() {
        let (dir, root) = alloc();
        let local = dir.path().join("a/web/local");
        symlink(dir.path().join("outside"), local.join("absolute")).unwrap();
        symlink("../../../outside", local.join("relative")).unwrap();
        symlink("/proc/self/root", local.join("magic")).unwrap();
        symlink(dir.path(), local.join("dir")).unwrap();
        for path in ["absolute", "relative", "magic/etc/passwd", "dir/outside"] {
            let path = format!("web/local/{path}");
            assert!(matches!(root.open_file(&path), Err(BeneathError::Escapes)), "{path}");
            assert!(matches!(root.stat(&path), Err(BeneathError::Escapes)), "{path}");
        }
    }

    #[test]
    fn symlinks_that_lead_nowhere_are_told_from_those_that_lead_out() {
        let (dir, root) = alloc();
        let local = dir.path().join("a/web/local");
        symlink("loop", local.join("loop")).unwrap();
        for error in [root.open_file("web/local/loop").unwrap_err(), root.stat("web/local/loop").unwrap_err()] {
            assert!(
                matches!(&error, BeneathError::Io { source, .. } if source.raw_os_error() == Some(40)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_directory_with_more_entries_than_a_listing_holds_is_refused_and_can_be_looked_into_still() {
        let dir = tempfile::tempdir().unwrap();
        let many = dir.path().join("many");
        fs::create_dir(&many).unwrap();
        for n in 0..=ENTRIES_MAX {
            File::create(many.join(n.to_string())).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.list("many").unwrap_err().to_string(), "more than 10000 entries");
        assert!(root.stat("many").unwrap().is_dir && root.open_file("many/7").is_ok());
        fs::remove_file(many.join("7")).unwrap();
        assert_eq!(root.list("many").unwrap().len(), ENTRIES_MAX);
    }

    #[test]
    fn a_symlink_within_the_directory_is_followed_fs_03() {
        let (dir, root) = alloc();
        symlink("../web/local/file", dir.path().join("a/alloc/link")).unwrap();
        assert!(root.open_file("alloc/link").is_ok());
        assert!(root.open_file("/web/local/file").is_ok());
    }

    #[test]
    fn secrets_are_refused_in_any_letter_case_and_through_links_fs_04_fs_05() {
        let (dir, root) = alloc();
        symlink("../secrets/key", dir.path().join("a/web/local/sneaky")).unwrap();
        fs::create_dir_all(dir.path().join("a/web/SECRETS")).unwrap();
        fs::write(dir.path().join("a/web/SECRETS/key"), "x").unwrap();
        for path in
            ["web/secrets/key", "web/SECRETS/key", "web/private/x", "web/local/../secrets/key", "web/local/sneaky"]
        {
            assert!(matches!(root.open_file(path), Err(BeneathError::Secret(_) | BeneathError::NotFound)), "{path}");
        }
        assert!(matches!(root.open_file("web/local/sneaky"), Err(BeneathError::Secret(_))));
        assert!(matches!(root.open_file(".supervisor/x"), Err(BeneathError::Secret(_))));
    }

    #[test]
    fn secret_directories_may_be_listed_and_the_supervisors_is_not_shown_fs_06() {
        let (_dir, root) = alloc();
        assert_eq!(root.list("web/secrets").unwrap()[0].name, "key");
        let names: Vec<_> = root.list("/").unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["alloc", "web"]);
        assert!(matches!(root.list("web/local/file"), Err(BeneathError::NotDirectory(_))));
    }

    #[test]
    fn a_pipe_or_directory_is_not_read_as_a_file() {
        let (dir, root) = alloc();
        nix::unistd::mkfifo(&dir.path().join("a/alloc/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(root.open_file("alloc/pipe"), Err(BeneathError::Special(_))));
        assert!(matches!(root.open_file("alloc"), Err(BeneathError::IsDirectory(_))));
        assert!(matches!(root.open_file("alloc/\0"), Err(BeneathError::Malformed)));
        assert_eq!(root.stat("web/local/file").unwrap().file_mode, "-rw-r--r--");
        assert_eq!(root.stat("web").unwrap().file_mode, "drwxr-xr-x");
    }

    #[test]
    fn a_file_is_written_beneath_with_its_directories_and_nowhere_else() {
        let (dir, root) = alloc();
        let at = dir.path().join("a/web/local");
        root.write_file("web/local/in/put/file", b"hello").unwrap();
        assert_eq!(fs::read_to_string(at.join("in/put/file")).unwrap(), "hello");
        root.write_file("web/local/in/put/file", b"hi").unwrap();
        assert_eq!(fs::read_to_string(at.join("in/put/file")).unwrap(), "hi", "written over");
        symlink(dir.path(), at.join("out")).unwrap();
        symlink(dir.path().join("outside"), at.join("link")).unwrap();
        for path in ["../b", "web/local/out/b", "web/local/link", "web/local/in"] {
            assert!(root.write_file(path, b"no").is_err(), "{path}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "host");
        assert!(!dir.path().join("b").exists());
    }
}
