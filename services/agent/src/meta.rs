//! What people told this node about itself while it runs, over what its configuration says.
//!
//! A value stands over the configured one; a key that was unset hides it. Kept in a small file of its own, replaced
//! as a whole, so that an agent that starts again still knows.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `None`: the key is unset.
pub type Changes = BTreeMap<String, Option<String>>;

const KEYS_MAX: usize = 512;
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error(
        "metadata key {0:?} is not usable: one to {KEY_BYTES_MAX} characters, without blanks or control characters, expected"
    )]
    Key(String),
    #[error("value of metadata key {0:?} is longer than {VALUE_BYTES_MAX} bytes")]
    Value(String),
    #[error("more than {KEYS_MAX} metadata keys")]
    TooMany,
    #[error("metadata cannot be stored")]
    Io(#[from] io::Error),
}

#[derive(Debug, Default)]
pub struct DynamicMeta {
    /// `None`: not kept.
    file: Option<PathBuf>,
    changes: Mutex<Changes>,
}

impl DynamicMeta {
    /// Reads what is kept. A file that cannot be read is as none, with a line in the log.
    pub fn open(file: PathBuf) -> Self {
        let changes = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %file.display(), %error, "stored metadata cannot be read, it is lost");
                Changes::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Changes::default(),
            Err(error) => {
                tracing::error!(path = %file.display(), %error, "stored metadata cannot be read");
                Changes::default()
            }
        };
        Self { file: Some(file), changes: Mutex::new(changes) }
    }

    fn locked(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn changes(&self) -> Changes {
        self.locked().clone()
    }

    /// The configured values with the changes over them.
    pub fn over(&self, mut configured: BTreeMap<String, String>) -> BTreeMap<String, String> {
        for (key, value) in self.locked().iter() {
            match value {
                Some(value) => drop(configured.insert(key.clone(), value.clone())),
                None => drop(configured.remove(key)),
            }
        }
        configured
    }

    /// Takes changes, all or none. Blocks on the disk.
    ///
    /// # Errors
    /// A key or value is not usable, there are too many, or they cannot be stored.
    pub fn apply(&self, changes: Changes) -> Result<(), MetaError> {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        for (key, value) in &changes {
            if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains(odd) {
                return Err(MetaError::Key(key.clone()));
            }
            if value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
                return Err(MetaError::Value(key.clone()));
            }
        }
        let mut kept = self.locked();
        let mut all = kept.clone();
        all.extend(changes);
        if all.len() > KEYS_MAX {
            return Err(MetaError::TooMany);
        }
        if let Some(file) = &self.file {
            let text = serde_json::to_vec(&all).map_err(io::Error::from)?;
            files::replace(file, &text, 0o644)?;
        }
        *kept = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn changes_stand_over_the_configuration_and_outlive_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("meta.json");
        let meta = DynamicMeta::open(file.clone());
        let changes = [("rack".to_owned(), Some("r2".to_owned())), ("old".to_owned(), None)].into();
        meta.apply(changes).unwrap();
        let configured = map(&[("rack", "r1"), ("old", "x"), ("kept", "y")]);
        let expected = map(&[("rack", "r2"), ("kept", "y")]);
        assert_eq!(meta.over(configured.clone()), expected);
        let again = DynamicMeta::open(file.clone());
        assert_eq!(again.over(configured.clone()), expected);
        // One bad key, and nothing is taken.
        let bad = [("a".to_owned(), Some("b".to_owned())), ("b c".to_owned(), None)].into();
        assert!(matches!(again.apply(bad), Err(MetaError::Key(_))));
        assert_eq!(again.over(configured), expected);
        let many = (0..=KEYS_MAX).map(|n| (n.to_string(), None)).collect();
        assert!(matches!(again.apply(many), Err(MetaError::TooMany)));
        fs::write(&file, "{").unwrap();
        assert!(DynamicMeta::open(file).changes().is_empty());
    }
}
