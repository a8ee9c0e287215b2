//! A small file system of its own, to be filled.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Gone at the end.
pub struct Disk(PathBuf);

impl Disk {
    /// Makes the directory, too.
    pub fn mount(at: PathBuf, mib: u64) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "steppe-test"]).arg(&at).output().unwrap();
        assert!(done.status.success(), "tests run as root: {}", crate::cluster::text(&done.stderr));
        Self(at)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Not a byte is left.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        for piece in [1 << 16, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What mounts are left beneath it go with it.
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.0).status();
    }
}
