//! Nothing is left behind, even by an agent that could not clean up after itself: one that was killed.
//!
//! Only what lies below the cluster's own directory, or in the cgroups of its own nodes, is touched.

use std::path::PathBuf;
use std::time::Duration;

use driver::cgroup::Cgroups;
use driver::docker::{self, OptionsText};
use driver::orphans::{self, Keep};
use driver::taskdir::AllocDirs;
use model::Role;

use super::plan::Spec;

/// The agents' default, as `steppe serve agent` has it.
const CGROUP_PARENT: &str = "steppe.slice";
/// A Docker Engine that does not answer keeps its containers; nobody waits longer for it.
const ENGINE_MAX: Duration = Duration::from_secs(1);

/// Ends tasks, supervisors and containers, unmounts, removes cgroups. Call it when the agents have ended.
/// Answers how many processes and containers had to be ended.
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
    let containers = containers(word("--docker-options=").as_deref(), node_id.trim());
    let parent = word("--cgroup-parent=").unwrap_or_else(|| CGROUP_PARENT.to_owned());
    let cgroups = Cgroups::detect(&parent, node_id.trim());
    let swept = orphans::sweep(&allocs, cgroups.as_ref(), &Keep::default());
    for root in swept.dirs {
        AllocDirs { root }.unmount();
    }
    if let Some(cgroups) = cgroups {
        cgroups.remove_home();
    }
    swept.supervisors + swept.tasks + swept.processes + containers
}

/// Ends the node's containers, where there is an engine to ask.
fn containers(options: Option<&str>, node_id: &str) -> usize {
    let options = options.unwrap_or_default().parse::<OptionsText>().and_then(|text| text.read());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(options), Ok(runtime)) = (options, runtime) else { return 0 };
    let ending = async { tokio::time::timeout(ENGINE_MAX, docker::end_all_of(&options, node_id)).await };
    runtime.block_on(ending).ok().and_then(Result::ok).unwrap_or(0)
}
