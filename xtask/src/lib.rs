//! What the project checks about itself: specifications that match the handlers, crates that depend
//! downwards only, and which test covers which scenario. All checks are ordinary tests; the binary only writes files.

pub mod coverage;
pub mod layers;
pub mod specs;

use std::path::PathBuf;

/// Root of the workspace.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the settings of a machine are described.
pub fn config_docs() -> PathBuf {
    root().join("docs/configuration.md")
}
