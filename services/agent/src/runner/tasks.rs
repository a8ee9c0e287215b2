//! What runs beside a runner and takes time: starting, finding again, waiting, freeing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use driver::contract::{Namespace, Notes};
use driver::taskdir::AllocDirs;
use driver::{Driver, DriverError, ExitResult, Handle};
use lifecycle::{Event, StartFailure, TaskExit};
use model::Allocation;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Message, Over, prepare};
use crate::bridge;
use crate::host::Host;

/// A start that nobody wants any more is left to itself after this long.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

/// Sentences of one start that wait.
const NOTES: usize = 8;

/// The way back to the runner, for one start of one task.
#[derive(Clone)]
pub(super) struct Outlet {
    pub task: String,
    pub start: u64,
    pub messages: mpsc::Sender<Message>,
}

impl Outlet {
    async fn send(&self, message: Message) {
        // A runner that is gone has ended with the agent: a later one finds out by itself.
        let _ = self.messages.send(message).await;
    }

    /// Sentences of a driver become events of the task, while the start is wanted.
    fn notes(&self, cancel: CancellationToken) -> Notes {
        let (sender, mut said) = mpsc::channel(NOTES);
        let outlet = self.clone();
        tokio::spawn(async move {
            while let Some(Some(message)) = cancel.run_until_cancelled(said.recv()).await {
                let task = outlet.task.clone();
                outlet.event(Event::DriverMessage { task, message, annotations: BTreeMap::new() }).await;
            }
        });
        Notes::new(sender)
    }

    pub async fn event(&self, event: Event) {
        self.send(Message::Event(event)).await;
    }
}

/// One start.
pub(super) struct Start {
    pub host: Arc<Host>,
    pub alloc: Arc<Allocation>,
    pub dirs: AllocDirs,
    pub driver: Arc<dyn Driver>,
    pub task_id: String,
    pub cancel: CancellationToken,
    /// What must be over before.
    pub after: Vec<Over>,
    pub outlet: Outlet,
}

impl Start {
    pub async fn run(self) {
        match Box::pin(self.begin()).await {
            Started::Running { host, driver, handle, outlet } => {
                let Outlet { task, start, .. } = &outlet;
                let task_id = handle.task_id.clone();
                outlet.send(Message::Launched { task: task.clone(), start: *start, handle }).await;
                // Waiting goes on without the start's tracker: ends are not waited for at the agent's end.
                tokio::spawn(watch(host, driver, task_id, outlet));
            }
            Started::Failed { failure, outlet } => {
                let Outlet { task, start, .. } = &outlet;
                outlet.event(Event::StartFailed { task: task.clone(), start: *start, failure }).await;
            }
        }
    }

    async fn begin(self) -> Started {
        let Self { host, alloc, dirs, driver, task_id, cancel, after, outlet } = self;
        for earlier in after {
            earlier.await;
        }
        let fail = |failure: StartFailure| {
            host.lets_go(&task_id);
            Started::Failed { failure, outlet: outlet.clone() }
        };
        let namespace = match network(&host, &alloc, &dirs, &cancel, &outlet).await {
            Ok(namespace) => namespace,
            Err(failure) => return fail(failure),
        };
        let preparing = prepare::Task {
            host: Arc::clone(&host),
            alloc,
            namespace,
            dirs,
            task: outlet.task.clone(),
            task_id: task_id.clone(),
            capabilities: driver.capabilities(),
            notes: outlet.notes(cancel.clone()),
            cancel: cancel.clone(),
        };
        let config = match tokio::task::spawn_blocking(move || preparing.config()).await {
            Ok(Ok(config)) => config,
            Ok(Err(failure)) => return fail(failure),
            Err(error) => return fail(prepare::hook_failure(&error.to_string())),
        };
        host.may_begin().await;
        if cancel.is_cancelled() || host.halt.is_requested() {
            return fail(prepare::hook_failure("the start was cancelled"));
        }
        let starting = Arc::clone(&driver);
        let mut starting = Box::pin(async move { starting.start(config).await });
        let patience = async {
            cancel.cancelled().await;
            tokio::time::sleep(CANCEL_PATIENCE).await;
        };
        tokio::select! {
            started = &mut starting => match started {
                Ok(handle) => Started::Running { host: Arc::clone(&host), driver, handle, outlet: outlet.clone() },
                Err(_) if cancel.is_cancelled() => fail(prepare::hook_failure("the start was cancelled")),
                Err(error) => fail(prepare::driver_failure(&error)),
            },
            () = patience => {
                let (host, task_id) = (Arc::clone(&host), task_id.clone());
                tokio::spawn(async move {
                    // It may still come up: then it goes down again.
                    if starting.await.is_ok() {
                        free(&host, &*driver, &task_id).await;
                    }
                    host.lets_go(&task_id);
                });
                Started::Failed { failure: prepare::hook_failure("the start was cancelled"), outlet: outlet.clone() }
            }
        }
    }
}

/// The network the task's group shares, if it does. Without one the allocation cannot be: then its runner
/// hears that, too.
async fn network(
    host: &Arc<Host>,
    alloc: &Arc<Allocation>,
    dirs: &AllocDirs,
    cancel: &CancellationToken,
    outlet: &Outlet,
) -> Result<Option<Namespace>, StartFailure> {
    let cancelled = || Err(prepare::hook_failure("the start was cancelled"));
    if cancel.is_cancelled() {
        return cancelled();
    }
    let (working, of, dirs) = (Arc::clone(host), Arc::clone(alloc), dirs.clone());
    // Not given up half-way: what comes up is the group's, whether or not this start is wanted any more.
    let mut making = tokio::spawn(async move { bridge::ensure(&working, &of, &dirs).await });
    let made = tokio::select! {
        made = &mut making => made,
        () = cancel.cancelled() => {
            let (host, id, runner) = (Arc::clone(host), alloc.id.clone(), outlet.messages.clone());
            tokio::spawn(async move {
                let Ok(Ok(Some(made))) = making.await else { return };
                // Siblings may be in it: its runner knows. Where the agent ends, a later one finds it.
                if runner.send(Message::Networked(made)).await.is_err() && !host.halt.is_requested() {
                    bridge::end(&host, &id).await;
                }
            });
            return cancelled();
        }
    };
    match made.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(None) => Ok(None),
        Ok(Some(made)) => {
            outlet.send(Message::Networked(made.clone())).await;
            Ok(Some(made))
        }
        Err(reason) => {
            outlet.event(Event::SetupFailed { reason: reason.clone() }).await;
            Err(StartFailure { recoverable: false, ..prepare::hook_failure(&reason) })
        }
    }
}

enum Started {
    Running { host: Arc<Host>, driver: Arc<dyn Driver>, handle: Handle, outlet: Outlet },
    Failed { failure: StartFailure, outlet: Outlet },
}

/// Finds a task of an earlier agent again, and then waits for it.
pub(super) async fn recover(host: Arc<Host>, driver: Arc<dyn Driver>, handle: Handle, outlet: Outlet) {
    let (task, start, task_id) = (outlet.task.clone(), outlet.start, handle.task_id.clone());
    match driver.recover(handle).await {
        Ok(()) => {
            tracing::info!(task_id, "task is attached again");
            outlet.event(Event::Recovered { task, start }).await;
            watch(host, driver, task_id, outlet).await;
        }
        Err(error) => {
            tracing::info!(task_id, error = %error, "task cannot be attached again");
            free(&host, &*driver, &task_id).await;
            outlet.event(Event::RecoverFailed { task, start }).await;
        }
    }
}

/// Waits for the end of a task.
async fn watch(host: Arc<Host>, driver: Arc<dyn Driver>, task_id: String, outlet: Outlet) {
    let Some(result) = host.halt.or(driver.wait(&task_id)).await else { return };
    let exit = match result {
        Ok(ExitResult { code, signal, oom_killed, error }) => TaskExit { code, signal, oom_killed, error },
        Err(error) => TaskExit { code: -1, error: Some(error.to_string()), ..TaskExit::default() },
    };
    let (task, start) = (outlet.task.clone(), outlet.start);
    outlet.event(Event::Exited { task, start, exit }).await;
}

/// The driver forgets a task; what is left of it is killed.
pub(super) async fn free(host: &Host, driver: &dyn Driver, task_id: &str) {
    match driver.destroy(task_id, true).await {
        Ok(()) | Err(DriverError::NotFound) => {}
        Err(error) => tracing::warn!(task_id, error = %error, "task is not freed"),
    }
    host.lets_go(task_id);
}
