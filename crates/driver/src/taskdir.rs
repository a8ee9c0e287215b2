//! The directories of an allocation and its tasks.
//!
//! ```text
//! <alloc dir>/<alloc id>/          0755
//!   alloc/{data,logs,tmp}          0777, nobody's when the agent is root
//!   .supervisor/                   0700, the agent's own
//!   <task>/{local}                 0777
//!   <task>/{secrets,private}       a small tmpfs when the agent may mount, else a directory
//!   <task>/tmp                     01777
//! ```
//!
//! Building is idempotent, so it runs again after a crash or a reboot (which loses the tmpfs). Nothing is
//! followed that a task may have planted: names are checked, removal never crosses a symlink and first
//! unmounts whatever lies below.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// The default size of a task's `secrets`.
pub const SECRETS_MIB: u32 = 1;
const NAME_BYTES_MAX: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum TaskDirError {
    #[error("{0:?} cannot name a directory")]
    BadName(String),
    #[error("user \"nobody\" does not exist")]
    NoNobody,
    #[error("failed to prepare {path:?}")]
    Io { path: PathBuf, source: io::Error },
}

/// The directories all tasks of an allocation share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocDirs {
    pub root: PathBuf,
}

/// One task's directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDirs {
    pub alloc: AllocDirs,
    pub dir: PathBuf,
}

impl AllocDirs {
    /// Names the directories of `alloc_id` below `base`; makes nothing.
    pub fn new(base: &Path, alloc_id: &str) -> Result<Self, TaskDirError> {
        check_name(alloc_id)?;
        Ok(Self { root: base.join(alloc_id) })
    }

    pub fn shared(&self) -> PathBuf {
        self.root.join("alloc")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("alloc/logs")
    }

    pub fn supervisor(&self) -> PathBuf {
        self.root.join(crate::supervisor::DIR_NAME)
    }

    /// Names the directories of a task; makes nothing.
    pub fn task(&self, name: &str) -> Result<TaskDirs, TaskDirError> {
        check_name(name)?;
        if name == "alloc" || name == crate::supervisor::DIR_NAME {
            return Err(TaskDirError::BadName(name.to_owned()));
        }
        Ok(TaskDirs { alloc: self.clone(), dir: self.root.join(name) })
    }

    pub fn build(&self) -> Result<(), TaskDirError> {
        make(&self.root, 0o755, false)?;
        make(&self.supervisor(), 0o700, false)?;
        for dir in [self.shared(), self.root.join("alloc/data"), self.logs(), self.root.join("alloc/tmp")] {
            make(&dir, 0o777, true)?;
        }
        Ok(())
    }

    /// Takes what tasks share and each task's `local` from another allocation, whose tasks have ended.
    ///
    /// # Errors
    /// Something cannot be moved; what was moved before stays so.
    pub fn take_over(&self, from: &Self, tasks: &[String]) -> Result<(), TaskDirError> {
        rename(&from.root.join("alloc/data"), &self.root.join("alloc/data"))?;
        for name in tasks {
            let (old, new) = (from.task(name)?, self.task(name)?);
            if is_dir(&old.local()) {
                make(&new.dir, 0o777, true)?;
                rename(&old.local(), &new.local())?;
            }
        }
        Ok(())
    }

    /// Takes away the mounts of all tasks. Files stay.
    pub fn unmount(&self) {
        for mount in mounts_below(&self.root) {
            let _ = rustix::mount::unmount(&mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }

    /// Unmounts and removes everything. Doing it twice is no error.
    pub fn destroy(&self) -> Result<(), TaskDirError> {
        self.unmount();
        match fs::remove_dir_all(&self.root) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(&self.root, source)),
            _ => Ok(()),
        }
    }
}

impl TaskDirs {
    pub fn local(&self) -> PathBuf {
        self.dir.join("local")
    }

    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets")
    }

    pub fn private(&self) -> PathBuf {
        self.dir.join("private")
    }

    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    pub fn build(&self, secrets_mib: u32) -> Result<(), TaskDirError> {
        make(&self.dir, 0o777, true)?;
        make(&self.local(), 0o777, true)?;
        make(&self.tmp(), 0o1777, true)?;
        make_secret(&self.secrets(), secrets_mib.max(SECRETS_MIB), 0o777)?;
        make_secret(&self.private(), SECRETS_MIB, 0o700)
    }
}

fn check_name(name: &str) -> Result<(), TaskDirError> {
    let bad =
        name.is_empty() || name == "." || name == ".." || name.len() > NAME_BYTES_MAX || name.contains(['/', '\0']);
    if bad { Err(TaskDirError::BadName(name.to_owned())) } else { Ok(()) }
}

fn at(path: &Path, source: io::Error) -> TaskDirError {
    TaskDirError::Io { path: path.to_path_buf(), source }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes a directory with exactly `mode`, whatever the umask; a symlink in its place is an error.
fn make(path: &Path, mode: u32, for_nobody: bool) -> Result<(), TaskDirError> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path).map_err(|e| at(path, e))?;
            // A second build leaves what is there alone: a task may have changed its own directory.
            return if meta.is_dir() { Ok(()) } else { Err(at(path, io::Error::other("not a directory"))) };
        }
        Err(error) => return Err(at(path, error)),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| at(path, e))?;
    if for_nobody && is_root() {
        let nobody = nix::unistd::User::from_name("nobody").ok().flatten().ok_or(TaskDirError::NoNobody)?;
        std::os::unix::fs::lchown(path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw()))
            .map_err(|e| at(path, e))?;
    }
    Ok(())
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Moves a directory to where nothing or an empty one is. What a task put in its place does not count.
fn rename(from: &Path, to: &Path) -> Result<(), TaskDirError> {
    if is_dir(from) { fs::rename(from, to).map_err(|e| at(from, e)) } else { Ok(()) }
}

/// A tmpfs where the agent may mount one, else the plain directory.
fn make_secret(path: &Path, mib: u32, mode: u32) -> Result<(), TaskDirError> {
    make(path, mode, mode == 0o777)?;
    if !is_root() || is_mount(path) {
        return Ok(());
    }
    let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    for extra in [",noswap", ""] {
        let options = format!("size={mib}m,mode={mode:o}{extra}");
        let options = std::ffi::CString::new(options).map_err(|e| at(path, io::Error::other(e)))?;
        match rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str()) {
            Ok(()) => return Ok(()),
            // A container's root may not mount: the directory has to do.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => return Ok(()),
            Err(error) if extra.is_empty() => return Err(at(path, error.into())),
            Err(_) => {}
        }
    }
    Ok(())
}

fn is_mount(path: &Path) -> bool {
    let device = |p: &Path| fs::symlink_metadata(p).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Mount points below `root`, deepest first.
fn mounts_below(root: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| Some(PathBuf::from(unescape(line.split(' ').nth(4)?))))
        .filter(|point| point.starts_with(&real) && point != &real)
        .collect();
    found.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    found
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_shared_directories_are_open_to_every_task_allocdir_01_allocdir_05() {
        let base = tempfile::tempdir().unwrap();
        let alloc = AllocDirs::new(base.path(), "a1").unwrap();
        alloc.build().unwrap();
        let task = alloc.task("web").unwrap();
        task.build(1).unwrap();
        for dir in ["alloc", "alloc/data", "alloc/logs", "alloc/tmp", "web", "web/local"] {
            assert_eq!(mode(&alloc.root.join(dir)), 0o777, "{dir}");
        }
        assert_eq!(mode(&alloc.root), 0o755);
        assert_eq!(mode(&alloc.supervisor()), 0o700);
        assert_eq!(mode(&task.tmp()), 0o1777);
        assert!(task.secrets().is_dir() && task.private().is_dir());
        alloc.build().unwrap();
        task.build(1).unwrap();
        alloc.destroy().unwrap();
    }

    #[test]
    fn destroy_removes_all_and_may_be_repeated_allocdir_02_allocdir_10_allocdir_11() {
        let base = tempfile::tempdir().unwrap();
        let alloc = AllocDirs::new(base.path(), "a1").unwrap();
        alloc.build().unwrap();
        let task = alloc.task("web").unwrap();
        task.build(2).unwrap();
        fs::write(task.secrets().join("key"), "x").unwrap();
        let outside = base.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        std::os::unix::fs::symlink(&outside, task.local().join("link")).unwrap();
        alloc.destroy().unwrap();
        alloc.destroy().unwrap();
        assert!(!alloc.root.exists() && outside.exists());
        assert!(mounts_below(base.path()).is_empty());
    }

    #[test]
    fn a_name_that_is_no_single_directory_is_refused() {
        let base = tempfile::tempdir().unwrap();
        for bad in ["", "..", ".", "a/b", "a\0"] {
            assert!(AllocDirs::new(base.path(), bad).is_err(), "{bad:?}");
        }
        let alloc = AllocDirs::new(base.path(), "a").unwrap();
        assert!(alloc.task("alloc").is_err() && alloc.task(".supervisor").is_err() && alloc.task("../x").is_err());
    }

    #[test]
    fn mount_points_with_blanks_are_read_back() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain\\"), "/plain\\");
    }
}
