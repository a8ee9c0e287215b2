//! Network namespaces: a thread goes into one, and what it starts there stays.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const OWN: &str = "/proc/thread-self/ns/net";

/// Takes this thread into the namespace at `path`.
///
/// # Errors
/// It is gone, or the caller may not.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    let describe = |error: io::Error| {
        let text = format!("failed to join the network of the group at {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    };
    let namespace = File::open(path).map_err(describe)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| describe(e.into()))
}

/// Does `work` in the namespace at `path`, if one is given, and comes back.
///
/// # Errors
/// That of `work`, or the thread could not go there or back.
pub(crate) fn within<T>(path: Option<&Path>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(path) = path else { return work() };
    let own = File::open(OWN)?;
    enter(path)?;
    let done = work();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))?;
    done
}
