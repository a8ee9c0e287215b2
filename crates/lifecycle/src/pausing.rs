//! Tasks that do not run all the time: by their hours, or because somebody wants it so.
//!
//! ```text
//!   wish:  Scheduled: by the hours ─┐                       closed ─► running task is ended, waits at its gate
//!          Run: always              ├─► look, at every step ┤
//!          Pause: never             ┘                       open ───► its gate lets it through
//! ```
//!
//! A pause is no end: the restart policy does not count it, and the group goes on. What is seen of it is
//! `Paused` of the task's state, from which a new agent knows it again; the wish is stored. A task that has
//! ended stays so, and poststop tasks know no hours.

use model::{Nanos, Timestamp};
use serde::{Deserialize, Serialize};

use crate::events;
use crate::machine::{Effect, Machine, TimerKind};
use crate::requests::RequestError;
use crate::spec::Class;
use crate::stopping::Stop;
use crate::task::{Phase, TaskRun};

/// Hours are looked at as often, at least: the clock may have been set.
const LOOK_EVERY: Nanos = Nanos::from_secs(600);

/// What people want of a task with regard to its hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    #[default]
    Scheduled,
    Run,
    Pause,
}

impl Wish {
    /// As the API names it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "scheduled" => Some(Self::Scheduled),
            "run" => Some(Self::Run),
            "pause" => Some(Self::Pause),
            _ => None,
        }
    }
}

impl Machine {
    /// Lets a task follow its hours, or run, or pause, whatever they are.
    ///
    /// # Errors
    /// There is no such task, it has ended, or the whole is being stopped.
    pub fn request_pause(&mut self, task: &str, wish: Wish, now: Timestamp) -> Result<Vec<Effect>, RequestError> {
        let Some(run) = self.tasks.get_mut(task) else { return Err(RequestError::UnknownTask(task.to_owned())) };
        if run.is_dead() || run.spec.class == Class::Poststop {
            return Err(RequestError::Ended(task.to_owned()));
        }
        if self.spec.wants_stop() || self.stop != Stop::No {
            return Err(RequestError::Stopping);
        }
        run.wish = wish;
        self.void_timer(&TimerKind::Hours(task.to_owned()));
        Ok(self.finish_step(now))
    }

    /// Looks at everybody's hours. True when a task may start that might not before, or the other way round.
    pub(crate) fn mind_hours(&mut self, now: Timestamp) -> bool {
        if self.stop != Stop::No {
            return false;
        }
        let minded = |t: &&TaskRun| !t.is_dead() && t.spec.class != Class::Poststop;
        let with_hours = self.tasks.values().filter(minded);
        let names: Vec<String> = with_hours
            .filter(|t| t.spec.hours.is_some() || t.wish != Wish::Scheduled || !t.state.paused.is_empty())
            .map(|t| t.spec.name.clone())
            .collect();
        let moved: Vec<bool> = names.iter().map(|name| self.mind_task(name, now)).collect();
        moved.contains(&true)
    }

    fn mind_task(&mut self, name: &str, now: Timestamp) -> bool {
        let Some(task) = self.tasks.get_mut(name) else { return false };
        let (open, until) = task.spec.hours.as_ref().map_or((true, None), |hours| hours.look(now));
        let state = match task.wish {
            Wish::Pause => "force_pause",
            Wish::Run => "force_run",
            Wish::Scheduled if open => "",
            Wish::Scheduled => "scheduled_pause",
        };
        let was_paused = task.state.is_paused();
        let moved = task.state.paused != state;
        state.clone_into(&mut task.state.paused);
        let paused = task.state.is_paused();
        if paused != was_paused {
            let event = if paused { events::pausing(state) } else { events::unpaused(state) };
            events::append(&mut task.state, event, now);
        }
        let ends = paused && task.phase == Phase::Running && task.kill.is_none() && task.restart_asked.is_none();
        if ends && !task.pausing {
            task.pausing = true;
            self.out.push(Effect::Stopping { task: Some(name.to_owned()) });
            self.ask_kill(name);
        }
        let timer = TimerKind::Hours(name.to_owned());
        if let Some(until) = until
            && !self.timers.contains_key(&timer)
        {
            let left = until.unix_nanos().saturating_sub(now.unix_nanos()).clamp(0, LOOK_EVERY.0);
            self.set_timer(timer, Nanos(left));
        }
        moved
    }

    /// What ran outside its hours has ended.
    pub(crate) fn paused(&mut self, name: &str) {
        for kind in [TimerKind::KillRetry(name.to_owned()), TimerKind::ShutdownDelay(name.to_owned())] {
            self.void_timer(&kind);
        }
        if let Some(task) = self.tasks.get_mut(name) {
            (task.pausing, task.restart_asked) = (false, None);
            task.become_pending(Phase::Waiting);
        }
    }
}
