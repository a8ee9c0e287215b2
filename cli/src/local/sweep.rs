//! Nothing is left behind, even by an agent that could not clean up after itself: one that was killed.
//!
//! Only what lies below the cluster's own directory, or in the cgroups of its own nodes, is touched.

use std::path::PathBuf;

use driver::cgroup::Cgroups;
use driver::orphans::{self, Keep};
use driver::taskdir::AllocDirs;
use model::Role;

use super::plan::Spec;

/// The agents' default, as `steppe serve agent` has it.
const CGROUP_PARENT: &str = "steppe.slice";

/// Ends tasks and supervisors, unmounts, removes cgroups. Call it when the agents have ended.
/// Answers how many processes had to be ended.
pub fn sweep(specs: &[Spec]) -> usize {
    specs.iter().filter(|spec| spec.role == Role::Agent).map(node).sum()
}

fn node(spec: &Spec) -> usize {
    let word = |name: &str| spec.words.iter().find_map(|w| w.strip_prefix(name)).map(str::to_owned);
    let allocs = word("--alloc-dir=").map_or_else(|| spec.home.join("data/alloc"), PathBuf::from);
    let Ok(node_id) = std::fs::read_to_string(spec.home.join("node-id")) else { return 0 };
    if !allocs.is_dir() {
        return 0;
    }
    let parent = word("--cgroup-parent=").unwrap_or_else(|| CGROUP_PARENT.to_owned());
    let cgroups = Cgroups::detect(&parent, node_id.trim());
    let swept = orphans::sweep(&allocs, cgroups.as_ref(), &Keep::default());
    for root in swept.dirs {
        AllocDirs { root }.unmount();
    }
    if let Some(cgroups) = cgroups {
        cgroups.remove_home();
    }
    swept.supervisors + swept.tasks + swept.processes
}
