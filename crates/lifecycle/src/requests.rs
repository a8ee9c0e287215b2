//! What people ask of running tasks: restart, signal.

use model::Timestamp;

use crate::events;
use crate::gates::Stage;
use crate::machine::{Effect, Machine, TimerKind};
use crate::spec::Class;
use crate::stopping::Stop;
use crate::task::Phase;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("unknown task name {0:?}")]
    UnknownTask(String),
    #[error("task {0:?} is not running")]
    NotRunning(String),
    #[error("task {0:?} has ended")]
    Ended(String),
    #[error("no task is running")]
    NothingRuns,
    #[error("a task name cannot be given together with all tasks")]
    NameWithAll,
    #[error("the allocation is being stopped")]
    Stopping,
}

impl Machine {
    /// Restarts one task, all running ones, or with `all` those that ended too. A restart because something
    /// `failed` counts as an attempt.
    pub fn request_restart(
        &mut self,
        task: Option<&str>,
        all: bool,
        failed: bool,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Effect>, RequestError> {
        if all && task.is_some() {
            return Err(RequestError::NameWithAll);
        }
        if self.spec.wants_stop() || self.poststop_cancelled || (self.stop != Stop::No && !all) {
            return Err(RequestError::Stopping);
        }
        let running = self.running(task)?;
        if running.is_empty() && !all {
            return Err(RequestError::NothingRuns);
        }
        if all {
            self.revive();
        }
        for name in running {
            let Some(run) = self.tasks.get_mut(&name).filter(|t| t.kill.is_none() && t.restart_asked.is_none()) else {
                continue;
            };
            events::append(&mut run.state, events::restart_signaled(reason), now);
            run.restart_asked = Some(failed);
            self.out.push(Effect::Stopping { task: Some(name.clone()) });
            self.ask_kill(&name);
        }
        Ok(self.finish_step(now))
    }

    /// Sends a signal to one task or to all that run.
    pub fn request_signal(
        &mut self,
        task: Option<&str>,
        signal: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Effect>, RequestError> {
        let running = self.running(task)?;
        if running.is_empty() {
            return Err(RequestError::NothingRuns);
        }
        for name in running {
            let Some(run) = self.tasks.get_mut(&name) else { continue };
            events::append(&mut run.state, events::signaling(signal, reason), now);
            let start = run.start;
            self.out.push(Effect::SignalTask { task: name, start, signal: signal.to_owned() });
        }
        Ok(self.finish_step(now))
    }

    fn running(&self, only: Option<&str>) -> Result<Vec<String>, RequestError> {
        let Some(name) = only else {
            let all = self.tasks.values().filter(|t| t.phase == Phase::Running);
            return Ok(all.map(|t| t.spec.name.clone()).collect());
        };
        let task = self.tasks.get(name).ok_or_else(|| RequestError::UnknownTask(name.to_owned()))?;
        if task.phase == Phase::Running {
            Ok(vec![name.to_owned()])
        } else {
            Err(RequestError::NotRunning(name.to_owned()))
        }
    }

    /// Dead tasks wait for their gates again; poststop tasks that ran stay dead.
    fn revive(&mut self) {
        self.stage = Stage::Prestart;
        self.stop = Stop::No;
        self.void_timer(&TimerKind::GroupDelay);
        for task in self.tasks.values_mut().filter(|t| t.is_dead() && t.spec.class != Class::Poststop) {
            task.become_pending(Phase::Waiting);
            task.state.failed = false;
            task.state.finished_at = None;
            task.state.started_at = None;
        }
    }
}
