//! What people ask of an allocation that runs here: restart, signal, what runs.
//!
//! An ask comes through the runner's own channel, so that it meets the allocation between two steps; what
//! takes time (a driver that signals) goes on beside the runner, and the answer comes from there.

use std::sync::Arc;

use driver::{Driver, DriverError};
use futures::future::join_all;
use lifecycle::{Effect, RequestError, Wish};
use model::TaskStateKind;
use tokio::sync::oneshot;

use super::{Runner, now};

/// Asks waiting for a runner.
pub const ASKS: usize = 8;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The allocation is not here, or is being removed.
    #[error("the allocation is not here")]
    Gone,
    #[error("the allocation is busy, try again")]
    Busy,
}

pub type Answer<T> = oneshot::Sender<Result<T, AskError>>;

/// A task that runs, and who holds it.
#[derive(Clone)]
pub struct Running {
    pub task: String,
    pub task_id: String,
    pub driver: Arc<dyn Driver>,
}

pub enum Ask {
    /// One task, all that run, or with `all` those that ended too.
    Restart { task: Option<String>, all: bool, answer: Answer<()> },
    /// One task, or all that run. Answered when the drivers have done it.
    Signal { task: Option<String>, signal: String, answer: Answer<()> },
    /// Whether one task follows its hours.
    Pause { task: String, wish: Wish, answer: Answer<()> },
    /// What runs now.
    Running { answer: Answer<Vec<Running>> },
}

impl Runner {
    pub(super) async fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Restart { task, all, answer } => {
                let reason = if all { "User requested all tasks to restart" } else { "User requested task to restart" };
                let effects = self.machine.request_restart(task.as_deref(), all, false, reason, now());
                let done = match effects {
                    Ok(effects) => {
                        self.perform(effects).await;
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                };
                let _ = answer.send(done);
            }
            Ask::Pause { task, wish, answer } => {
                let done = match self.machine.request_pause(&task, wish, now()) {
                    Ok(effects) => {
                        self.perform(effects).await;
                        // The wish itself may be all that changed.
                        self.save().await;
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                };
                let _ = answer.send(done);
            }
            Ask::Signal { task, signal, answer } => self.signal_asked(task.as_deref(), &signal, answer).await,
            Ask::Running { answer } => {
                let _ = answer.send(Ok(self.running()));
            }
        }
    }

    async fn signal_asked(&mut self, task: Option<&str>, signal: &str, answer: Answer<()>) {
        let effects = match self.machine.request_signal(task, signal, "User requested signal", now()) {
            Ok(effects) => effects,
            Err(error) => {
                let _ = answer.send(Err(error.into()));
                return;
            }
        };
        let (signals, rest): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::SignalTask { .. }));
        self.perform(rest).await;
        let held = self.running();
        let sending = signals.into_iter().filter_map(|effect| {
            let Effect::SignalTask { task, signal, .. } = effect else { return None };
            let held = held.iter().find(|held| held.task == task)?.clone();
            Some(async move { held.driver.signal(&held.task_id, &signal).await })
        });
        let sending = join_all(sending.collect::<Vec<_>>());
        tokio::spawn(async move {
            let done = sending.await.into_iter().collect::<Result<(), _>>();
            let _ = answer.send(done.map_err(AskError::from));
        });
    }

    fn running(&self) -> Vec<Running> {
        let report = self.machine.report();
        let runs = |task: &str| report.task_states.get(task).is_some_and(|s| s.state == TaskStateKind::Running);
        let held = self.slots.iter().filter(|(task, _)| runs(task));
        held.filter_map(|(task, slot)| {
            let driver = slot.driver.clone()?;
            Some(Running { task: task.clone(), task_id: slot.task_id.clone(), driver })
        })
        .collect()
    }
}
