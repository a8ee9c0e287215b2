//! Directories of the host that a task sees: what the operator named, where the task wants it.

use std::path::PathBuf;

/// One of them. The agent has resolved it: the source stands in its own configuration, never in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// The volume's name in the job, for sentences.
    pub volume: String,
    pub source: PathBuf,
    /// Where the task sees it, in the task's words.
    pub destination: String,
    pub read_only: bool,
    pub propagation: Propagation,
    /// `z`, `Z`, or nothing.
    pub selinux_label: String,
}

/// Whether what is mounted below the directory later is seen on the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Private,
    HostToTask,
    Bidirectional,
}

impl Propagation {
    /// Reads the word of a job; nothing is private.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "" | "private" => Self::Private,
            "host-to-task" => Self::HostToTask,
            "bidirectional" => Self::Bidirectional,
            _ => return None,
        })
    }
}
