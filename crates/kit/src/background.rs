//! Work that is done again and again.
//!
//! A background task takes no input: each activation looks at the world and moves it towards how
//! it should be. So it may be woken early, late or twice without harm.
//!
//! ```text
//!            period over, or poked
//!   idle ───────────────────────────► running (at most `limit`) ──► idle, status updated
//! ```
//!
//! Invariants: one activation of a task at a time; a poke during one leads to another right after;
//! an activation that fails, panics or takes too long is recorded and tried again at the next
//! period, never in a tight loop; tasks do not wait for each other. The first failure of a series
//! is logged, and its end.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::process::Shutdown;

/// What a task is.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub name: &'static str,
    /// About: whoever waits does so in step with others of its process.
    pub period: Duration,
    /// Longest time for one activation.
    pub limit: Duration,
}

/// How a task is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub name: &'static str,
    pub period_ms: u64,
    pub running: bool,
    pub activations: u64,
    pub failures: u64,
    /// Failures since the last success.
    pub failing: u64,
    pub last_started_unix_ms: u64,
    pub last_took_ms: u64,
    /// What the last activation said it did, or why it failed.
    pub last: String,
}

/// Wakes a task.
#[derive(Clone)]
pub struct Task {
    poke: Arc<Notify>,
    status: Arc<Mutex<Status>>,
}

impl Task {
    /// Wishes an activation now; many wishes during one activation make one more.
    pub fn poke(&self) {
        self.poke.notify_one();
    }

    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks of a process. Clones share them.
#[derive(Clone)]
pub struct Background {
    shutdown: Shutdown,
    tracker: TaskTracker,
    tasks: Arc<Mutex<Vec<Task>>>,
}

impl Background {
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tracker: TaskTracker::new(), tasks: Arc::default() }
    }

    /// Starts a task; its first activation is at once. `work` answers with a short line about what
    /// it did, or with why it could not.
    pub fn spawn<F, Fut, E>(&self, spec: Spec, work: F) -> Task
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let status = Status {
            name: spec.name,
            period_ms: u64::try_from(spec.period.as_millis()).unwrap_or(u64::MAX),
            running: false,
            activations: 0,
            failures: 0,
            failing: 0,
            last_started_unix_ms: 0,
            last_took_ms: 0,
            last: String::new(),
        };
        let task = Task { poke: Arc::default(), status: Arc::new(Mutex::new(status)) };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task.clone());
        self.tracker.spawn(run(spec, task.clone(), self.shutdown.clone(), work));
        task
    }

    /// How all tasks are doing.
    pub fn statuses(&self) -> Vec<Status> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Task::status).collect()
    }

    /// Waits until all tasks have ended, which they do after shutdown is requested.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn run<F, Fut, E>(spec: Spec, task: Task, shutdown: Shutdown, mut work: F)
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<String, E>> + Send,
    E: Display + Send,
{
    while !shutdown.is_requested() {
        let start = Instant::now();
        begin(&task);
        let activation = AssertUnwindSafe(tokio::time::timeout(spec.limit, work())).catch_unwind();
        let Some(result) = shutdown.or(activation).await else {
            task.lock().running = false;
            return;
        };
        let result = match result {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(e))) => Err(e.to_string()),
            Ok(Err(_)) => Err(format!("not done within {} ms", spec.limit.as_millis())),
            Err(_) => Err("panicked".to_owned()),
        };
        finish(&task, start.elapsed(), result);
        let wait = async {
            tokio::select! {
                () = client::calm::about(spec.period) => {}
                () = task.poke.notified() => {}
            }
        };
        if shutdown.or(wait).await.is_none() {
            return;
        }
    }
}

fn begin(task: &Task) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut status = task.lock();
    status.running = true;
    status.activations += 1;
    status.last_started_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
}

fn finish(task: &Task, took: Duration, result: Result<String, String>) {
    let mut status = task.lock();
    status.running = false;
    status.last_took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(done) => {
            if status.failing > 0 {
                tracing::info!(task = status.name, after = status.failing, "background task works again");
            }
            status.failing = 0;
            status.last = done;
        }
        Err(error) => {
            if status.failing == 0 {
                tracing::warn!(task = status.name, error, "background task failed, will be tried again");
            }
            status.failures += 1;
            status.failing += 1;
            status.last = error;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn until(mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("did not come to hold");
    }

    #[tokio::test]
    async fn a_task_runs_at_once_and_when_poked_and_ends_with_the_process() {
        let shutdown = Shutdown::new();
        let background = Background::new(shutdown.clone());
        let runs = Arc::new(AtomicU64::new(0));
        let count = runs.clone();
        let task = background.spawn(Spec { name: "t", period: HOUR, limit: HOUR }, move || {
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move { if n == 2 { Err("broken") } else { Ok(format!("run {n}")) } }
        });
        until(|| task.status().last == "run 1").await;
        task.poke();
        until(|| task.status().last == "broken").await;
        assert_eq!((task.status().failures, task.status().failing), (1, 1));
        task.poke();
        until(|| task.status().last == "run 3").await;
        assert_eq!(background.statuses()[0].failing, 0);
        shutdown.request();
        background.finished().await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_panic_or_an_overlong_activation_does_not_end_the_task() {
        let background = Background::new(Shutdown::new());
        let mut n = 0;
        let spec = Spec { name: "t", period: Duration::from_millis(1), limit: Duration::from_millis(20) };
        let task = background.spawn(spec, move || {
            n += 1;
            let n = n;
            async move {
                match n {
                    1 => panic!("first"),
                    2 => std::future::pending::<Result<String, String>>().await,
                    _ => Ok("done".to_owned()),
                }
            }
        });
        until(|| task.status().last == "done").await;
        assert_eq!(task.status().failures, 2);
    }
}
