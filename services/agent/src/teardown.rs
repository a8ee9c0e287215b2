//! Leaving nothing behind: every task is asked to end and then killed, mounts and cgroups are removed.
//!
//! ```text
//!   signal ── tasks are asked ──► half of the time: killed, freed ──► LAST before the end: whatever is still
//!                                                                     there, held by a task or not, is ended
//! ```
//!
//! However patient a task is, whoever waits for this process is not: one limit, from the signal on, holds for all.
//! The cluster is not told: the node leaves, and what it ran is replaced, or started again by the next agent
//! in the same directories.

use std::sync::Arc;

use driver::orphans::{self, Keep};
use driver::taskdir::AllocDirs;
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::host::Host;
use crate::runner::Live;

/// Of what is left of the time: kept for what did not go by itself.
const LAST: u32 = 4;

/// Ends everything; done by `due`, or a little later where the kernel takes its time.
pub async fn run(host: &Arc<Host>, live: Vec<Live>, killing: Instant, due: Instant) {
    let tasks = live.len();
    let kill = |task: Live| async move {
        let timeout = task.timeout.min(killing.saturating_duration_since(Instant::now()));
        if let Err(error) = task.driver.kill(&task.task_id, &task.signal, timeout).await {
            tracing::warn!(task_id = task.task_id, error = %error, "task did not end when asked to");
        }
        let _ = task.driver.destroy(&task.task_id, true).await;
    };
    // A driver has its own margin for processes that hang in the kernel; that is not waited for here.
    let last = due - due.saturating_duration_since(killing.max(Instant::now())) / LAST;
    let _ = timeout_at(last, join_all(live.into_iter().map(kill))).await;
    let closing = host.drivers.values().map(|driver| async move {
        match timeout_at(due, driver.end_all()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(ended)) => tracing::warn!(driver = driver.name(), ended, "ended what did not end when asked to"),
            Ok(Err(error)) => tracing::warn!(driver = driver.name(), error = %error, "something may run on"),
            Err(_) => tracing::warn!(driver = driver.name(), "something may run on, the driver did not answer in time"),
        }
    });
    join_all(closing).await;
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
