//! Orphans: what carries this node's mark and runs, though nobody here knows it.

use std::sync::Arc;

use driver::orphans::{self, Keep, Swept};
use driver::taskdir::AllocDirs;
use model::{AllocId, TaskStateKind};

use crate::host::Host;
use crate::roster::Roster;
use crate::store::{Progress, Stored};

/// Before anything is restored: only what is stored stays.
pub async fn at_start(host: &Arc<Host>, stored: &[Stored]) {
    let begun: Vec<_> = stored.iter().filter_map(|s| Some((&s.alloc.id, s.progress.as_ref()?))).collect();
    let keep = Keep {
        allocs: begun.iter().map(|(id, _)| id.to_string()).collect(),
        networks: begun.iter().filter(|(_, p)| lives(p)).map(|(id, _)| id.to_string()).collect(),
        task_ids: begun.iter().flat_map(|(_, p)| p.held.values().map(|h| h.handle.task_id.clone())).collect(),
        handles: begun.iter().flat_map(|(_, p)| p.held.values().map(|h| h.handle.clone())).collect(),
    };
    let swept = run(host, keep).await;
    remove_dirs(swept, |_| false).await;
}

/// Now and then: only what the roster knows stays.
pub async fn again(roster: &Roster) -> String {
    let host = roster.host();
    let _guard = host.sweep_guard();
    let keep = Keep {
        allocs: roster.ids().iter().map(ToString::to_string).collect(),
        networks: unfinished(roster),
        task_ids: host.held(),
        handles: Vec::new(),
    };
    let swept = run(host, keep).await;
    let found = swept.supervisors + swept.tasks + swept.processes + swept.cgroups;
    remove_dirs(swept, |id| roster.knows(id)).await;
    format!("ended {found} orphans")
}

/// A task of it has not ended.
fn lives(progress: &Progress) -> bool {
    progress.saved.tasks.values().any(|task| task.state.state != TaskStateKind::Dead)
}

fn unfinished(roster: &Roster) -> std::collections::BTreeSet<String> {
    let views = roster.views();
    views.iter().filter(|view| view.finished.is_none()).map(|view| view.alloc.id.to_string()).collect()
}

async fn run(host: &Arc<Host>, keep: Keep) -> Swept {
    for driver in host.drivers.values() {
        match driver.sweep(&keep).await {
            Ok(0) => {}
            Ok(ended) => tracing::warn!(driver = driver.name(), ended, "ended what nobody here knows"),
            Err(error) => tracing::debug!(driver = driver.name(), error = %error, "driver could not look for orphans"),
        }
    }
    let sweeping = Arc::clone(host);
    let work = move || orphans::sweep(&sweeping.alloc_base, sweeping.cgroups.as_ref(), &keep);
    let swept = tokio::task::spawn_blocking(work).await.unwrap_or_default();
    if swept.ended_anything() {
        let Swept { supervisors, tasks, processes, cgroups, .. } = &swept;
        tracing::warn!(supervisors, tasks, processes, cgroups, "ended what nobody here knows");
    }
    swept
}

/// `known` again, since a directory may have been taken into use meanwhile.
async fn remove_dirs(swept: Swept, known: impl Fn(&AllocId) -> bool) {
    for root in swept.dirs {
        let id = root.file_name().and_then(|name| name.to_str()).map(AllocId::from);
        if id.is_none_or(|id| known(&id)) {
            continue;
        }
        let dirs = AllocDirs { root };
        let path = dirs.root.display().to_string();
        match tokio::task::spawn_blocking(move || dirs.destroy()).await {
            Ok(Ok(())) => tracing::info!(path, "removed an allocation's directory that nobody knows"),
            Ok(Err(error)) => tracing::warn!(path, error = %error, "unknown directory is not removed"),
            Err(_) => {}
        }
    }
}
