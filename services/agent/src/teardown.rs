//! Leaving nothing behind: every task is asked to end and then killed, mounts and cgroups are removed.
//!
//! The cluster is not told: the node leaves, and what it ran is replaced, or started again by the next agent
//! in the same directories.

use std::sync::Arc;
use std::time::Duration;

use driver::orphans::{self, Keep};
use driver::taskdir::AllocDirs;
use futures::future::join_all;

use crate::host::Host;
use crate::runner::Live;

/// However patient a task's own timeout is, the process that waits for us is not.
const PATIENCE: Duration = Duration::from_secs(4);

pub async fn run(host: &Arc<Host>, live: Vec<Live>) {
    let tasks = live.len();
    let kill = |task: Live| async move {
        let timeout = task.timeout.min(PATIENCE);
        if let Err(error) = task.driver.kill(&task.task_id, &task.signal, timeout).await {
            tracing::warn!(task_id = task.task_id, error = %error, "task did not end when asked to");
        }
        let _ = task.driver.destroy(&task.task_id, true).await;
    };
    // A driver has its own margin for processes that hang in the kernel; that is not waited for here.
    let _ = tokio::time::timeout(PATIENCE + Duration::from_secs(2), join_all(live.into_iter().map(kill))).await;
    let cleaning = Arc::clone(host);
    let work = move || {
        let swept = orphans::sweep(&cleaning.alloc_base, cleaning.cgroups.as_ref(), &Keep::default());
        for root in swept.dirs {
            let dirs = AllocDirs { root };
            dirs.unmount();
            // How these tasks ended was our doing: the next agent must not take it for their own end.
            let _ = std::fs::remove_dir_all(dirs.supervisor());
        }
        if let Some(cgroups) = &cleaning.cgroups {
            cgroups.remove_home();
        }
    };
    let _ = tokio::task::spawn_blocking(work).await;
    tracing::info!(tasks, "every task was stopped");
}
