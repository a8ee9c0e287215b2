//! Nothing is left behind, even by an agent that could not clean up after itself: one that was killed.
//!
//! Only what lies below the cluster's own directory, or in the cgroups of its own nodes, is touched.

use driver::cgroup::Cgroups;
use driver::orphans::{self, Keep};
use driver::taskdir::AllocDirs;
use model::Role;

use super::cluster::Cluster;
use super::plan::home;

/// The agents' default, as `steppe serve agent` has it.
const CGROUP_PARENT: &str = "steppe.slice";

/// Ends tasks and supervisors, unmounts, removes cgroups. Call it when the agents have ended.
/// Answers how many processes had to be ended.
pub fn sweep(cluster: &Cluster) -> usize {
    let agents = cluster.specs.iter().filter(|spec| spec.role == Role::Agent);
    agents.map(|spec| node(cluster, &spec.name)).sum()
}

fn node(cluster: &Cluster, name: &str) -> usize {
    let home = home(&cluster.data, name);
    let allocs = home.join("data/alloc");
    let Ok(node_id) = std::fs::read_to_string(home.join("node-id")) else { return 0 };
    if !allocs.is_dir() {
        return 0;
    }
    let cgroups = Cgroups::detect(CGROUP_PARENT, node_id.trim());
    let swept = orphans::sweep(&allocs, cgroups.as_ref(), &Keep::default());
    for root in swept.dirs {
        AllocDirs { root }.unmount();
    }
    if let Some(cgroups) = cgroups {
        cgroups.remove_home();
    }
    swept.supervisors + swept.tasks + swept.processes
}
