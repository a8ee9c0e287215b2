//! The agent's directory: made with the right modes, bound to one node, with the node's secret.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use client::state::new_uuid;
use model::NodeId;

const ID_FILE: &str = "client-id";
const SECRET_FILE: &str = "secret-id";
const STORE_FILE: &str = "agent.redb";
const ALLOC_DIR: &str = "alloc";

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{dir} belongs to node {found}, the certificate is for node {wanted}: give it that node's identity, or another directory"
    )]
    AnotherNode { dir: PathBuf, found: String, wanted: String },
    #[error("{path} holds no secret id")]
    BadSecret { path: PathBuf },
}

/// Prepared directories and what was found in them.
#[derive(Clone, Debug)]
pub struct DataDir {
    pub alloc_base: PathBuf,
    pub store: PathBuf,
    pub secret_id: String,
    /// See [`model::node::PLACE`].
    pub place: String,
}

impl DataDir {
    /// Makes what is missing. A directory that another node used is refused: its tasks are not ours.
    pub fn open(dir: &Path, alloc_dir: Option<&Path>, node_id: &NodeId) -> Result<Self, DataDirError> {
        // Tasks of other users pass through it to their own directories; its files are private by themselves.
        let dir = make_dir(dir, 0o711)?;
        let id_path = dir.join(ID_FILE);
        let found = read_or_create(&id_path, || node_id.to_string())?;
        if !found.eq_ignore_ascii_case(node_id.as_str()) {
            return Err(DataDirError::AnotherNode { dir, found, wanted: node_id.to_string() });
        }
        let secret_path = dir.join(SECRET_FILE);
        let secret_id = read_or_create(&secret_path, new_uuid)?;
        if secret_id.len() < 32 {
            return Err(DataDirError::BadSecret { path: secret_path });
        }
        let alloc_base = make_dir(alloc_dir.unwrap_or(&dir.join(ALLOC_DIR)), 0o711)?;
        let place = place(&dir).map_err(|source| DataDirError::Io { path: dir.clone(), source })?;
        Ok(Self { alloc_base, store: dir.join(STORE_FILE), secret_id, place })
    }
}

/// The same for each start of an agent here while the host runs; another for a copy of the directory.
fn place(dir: &Path) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let found = fs::metadata(dir)?;
    let text = format!("{} {} {}", boot.trim(), found.dev(), found.ino());
    Ok(format!("{:016x}", model::hash::fnv1a(text.as_bytes())))
}

/// The real path of a directory, made with exactly this mode; one that is there is left as it is.
fn make_dir(path: &Path, mode: u32) -> Result<PathBuf, DataDirError> {
    let fail = |source| DataDirError::Io { path: path.to_owned(), source };
    if !path.exists() {
        fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(fail)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)?;
    }
    fs::canonicalize(path).map_err(fail)
}

fn read_or_create(path: &Path, make: impl FnOnce() -> String) -> Result<String, DataDirError> {
    let fail = |source| DataDirError::Io { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_lowercase()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let text = make();
    files::replace(path, text.as_bytes(), 0o600).map_err(fail)?;
    Ok(text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn ids_are_private_and_survive_a_restart_node_01() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a");
        let id = NodeId::from("6f1f2d1e-0000-4000-8000-000000000001");
        let first = DataDir::open(&dir, None, &id).unwrap();
        let again = DataDir::open(&dir, None, &id).unwrap();
        assert_eq!((&first.secret_id, &first.place), (&again.secret_id, &again.place));
        let elsewhere = DataDir::open(&base.path().join("b"), None, &id).unwrap();
        assert_ne!(first.place, elsewhere.place, "a copy is told from it");
        assert_eq!((mode(&dir.join(ID_FILE)), mode(&dir.join(SECRET_FILE))), (0o600, 0o600));
        assert_eq!((mode(&dir), mode(&first.alloc_base)), (0o711, 0o711));
    }

    #[test]
    fn a_directory_of_another_node_is_refused() {
        let base = tempfile::tempdir().unwrap();
        DataDir::open(base.path(), None, &NodeId::from("n1")).unwrap();
        let refused = DataDir::open(base.path(), None, &NodeId::from("n2"));
        assert!(matches!(refused, Err(DataDirError::AnotherNode { .. })));
    }

    #[test]
    fn an_id_in_capitals_is_the_same_node_node_02() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join(ID_FILE), "ABC-1\n").unwrap();
        assert!(DataDir::open(base.path(), None, &NodeId::from("abc-1")).is_ok());
    }
}
