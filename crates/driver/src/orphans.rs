//! Finding and ending what this node's agent started and nobody wants any more.
//!
//! Two marks say that something is ours: it lies below our allocation directory (a supervisor's argument, a
//! task's `NOMAD_ALLOC_DIR`, a state file), or in a cgroup below our node's own directory. Several agents may
//! share a host, so nothing else is ever touched, whatever it looks like.
//!
//! Called with what *should* run: at the start of an agent, and on each sync. The caller must not start
//! tasks between making `keep` and the end of the sweep, or must have them in it. With an empty `keep`
//! everything of the node ends: that is how a node is taken down.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroups;
use crate::procfs;
use crate::raw_exec::kill_leftovers;
use crate::supervisor::DIR_NAME;
use crate::supervisor::client::saved_statuses;

/// What should run.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    pub allocs: BTreeSet<String>,
    /// Those of them that have begun and not finished: they alone keep the network their tasks share.
    pub networks: BTreeSet<String>,
    /// The task ids of the handles that are stored. A task of a kept allocation that is not here was
    /// started by an agent that died before it could store the handle.
    pub task_ids: BTreeSet<String>,
    /// Those handles themselves, as far as no driver holds them yet.
    pub handles: Vec<crate::contract::Handle>,
}

/// What was found and ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub supervisors: usize,
    pub tasks: usize,
    pub processes: usize,
    pub cgroups: usize,
    /// Directories of allocations that are not kept. They are left for the caller to remove.
    pub dirs: Vec<PathBuf>,
}

impl Swept {
    pub fn ended_anything(&self) -> bool {
        self.supervisors + self.tasks + self.processes + self.cgroups > 0
    }
}

/// Ends what is not kept below `alloc_base`. Blocks for up to seconds where cgroups must drain.
pub fn sweep(alloc_base: &Path, cgroups: Option<&Cgroups>, keep: &Keep) -> Swept {
    let mut swept = Swept::default();
    let base = std::fs::canonicalize(alloc_base).unwrap_or_else(|_| alloc_base.to_path_buf());
    // Supervisors first: nobody then records our kills as exits of tasks that were wanted.
    for pid in procfs::pids() {
        if let Some(alloc) = supervised(pid, &base, alloc_base).filter(|alloc| !keep.allocs.contains(alloc)) {
            tracing::debug!(pid, alloc_id = alloc, "orphaned supervisor");
            swept.supervisors += usize::from(end(pid));
        }
    }
    sweep_states(&base, keep, &mut swept);
    for pid in procfs::pids() {
        let ours = alloc_of_task(pid, &base, alloc_base).filter(|alloc| !keep.allocs.contains(alloc));
        swept.processes += usize::from(ours.is_some() && end(pid));
    }
    for (label, scope) in cgroups.map(Cgroups::scopes).unwrap_or_default() {
        let kept = label.split_once('.').is_some_and(|(alloc, _)| keep.allocs.contains(alloc));
        if !kept {
            scope.kill();
            swept.cgroups += usize::from(scope.remove().is_ok());
        }
    }
    swept
}

/// Tasks by the state files their supervisors wrote.
fn sweep_states(base: &Path, keep: &Keep, swept: &mut Swept) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        let Ok(alloc) = entry.file_name().into_string() else { continue };
        let kept = keep.allocs.contains(&alloc);
        for status in saved_statuses(&entry.path().join(DIR_NAME)) {
            if kept && keep.task_ids.contains(&status.task_id) {
                continue;
            }
            if status.exit.is_none() && procfs::is_alive(status.pid, status.start_ticks) {
                kill_leftovers(&status);
                swept.tasks += 1;
            }
        }
        if !kept {
            swept.dirs.push(entry.path());
        }
    }
    swept.dirs.sort();
}

fn end(pid: i32) -> bool {
    kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
}

/// The allocation whose supervisor `pid` is, if it is one of ours.
fn supervised(pid: i32, base: &Path, alias: &Path) -> Option<String> {
    let args = procfs::cmdline(pid);
    let [_, word, dir] = args.as_slice() else { return None };
    if word != "supervise" || !Path::new(dir).ends_with(DIR_NAME) {
        return None;
    }
    first_below(Path::new(dir), base, alias)
}

/// The allocation whose task `pid` belongs to, by the environment it was started with.
fn alloc_of_task(pid: i32, base: &Path, alias: &Path) -> Option<String> {
    if u32::try_from(pid).is_ok_and(|pid| pid == std::process::id()) {
        return None;
    }
    first_below(Path::new(procfs::Environ::of(pid).get("NOMAD_ALLOC_DIR")?), base, alias)
}

fn first_below(path: &Path, base: &Path, alias: &Path) -> Option<String> {
    let inner = path.strip_prefix(base).or_else(|_| path.strip_prefix(alias)).ok()?;
    inner.components().next()?.as_os_str().to_str().map(str::to_owned)
}
