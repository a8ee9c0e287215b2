//! Stopping: why a group stops, in which order its tasks end, and how one task is killed.
//!
//! ```text
//!   cause ──► Delay (group shutdown_delay, once) ──► Bodies: leader ─► main tasks ─► sidecars ──► poststop tasks
//! ```
//!
//! A cause is: the cluster wants it, a task failed, the leader ended, only sidecars are left, the run time is
//! over, or the whole could not be prepared.

use model::{Nanos, Timestamp};

use crate::events;
use crate::machine::{Effect, Machine, TimerKind};
use crate::spec::Class;
use crate::task::{Kill, Phase, TaskRun};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    Delay,
    Bodies,
}

impl Machine {
    /// Looks whether the tasks themselves give a reason to stop the group.
    pub(crate) fn stop_for_cause(&mut self, now: Timestamp) -> bool {
        if self.stop != Stop::No {
            return false;
        }
        let body = || self.tasks.values().filter(|t| t.spec.class != Class::Poststop);
        let failed = body().find(|t| t.is_dead() && t.state.failed).map(|t| t.spec.name.clone());
        let leader_dead = body().any(|t| t.spec.leader && t.is_dead());
        let mut live = body().filter(|t| !t.is_dead()).peekable();
        let any_live = live.peek().is_some();
        let has_main = body().any(|t| t.spec.class == Class::Main);
        let only_sidecars = any_live && has_main && live.all(|t| t.spec.class.is_sidecar());
        if !any_live {
            return false;
        }
        let event = match failed {
            Some(sibling) => events::sibling_failed(&sibling),
            None if leader_dead => events::leader_dead(),
            None if only_sidecars => events::main_dead(),
            None => return false,
        };
        for task in self.tasks.values_mut().filter(|t| t.spec.class != Class::Poststop && !t.is_dead()) {
            events::append(&mut task.state, event.clone(), now);
        }
        self.begin_stop();
        true
    }

    /// Begins to stop the group; a second call changes nothing.
    pub(crate) fn begin_stop(&mut self) {
        if self.stop != Stop::No {
            return;
        }
        self.out.push(Effect::Stopping { task: None });
        let running = self.tasks.values().any(|t| t.spec.class != Class::Poststop && t.is_held());
        if running && self.spec.shutdown_delay.0 > 0 && !self.spec.no_shutdown_delay {
            self.stop = Stop::Delay;
            self.set_timer(TimerKind::GroupDelay, self.spec.shutdown_delay);
        } else {
            self.stop = Stop::Bodies;
        }
    }

    pub(crate) fn delay_over(&mut self) {
        if self.stop == Stop::Delay {
            self.stop = Stop::Bodies;
        }
    }

    /// Kills the next rank once the one before it is dead.
    pub(crate) fn advance_stop(&mut self, now: Timestamp) -> bool {
        if self.stop != Stop::Bodies {
            return false;
        }
        let rank = |task: &TaskRun| match task.spec.class {
            Class::Poststop => 3,
            class if class.is_sidecar() => 2,
            _ if task.spec.leader => 0,
            _ => 1,
        };
        let last = if self.poststop_cancelled { 3 } else { 2 };
        let next = self.tasks.values().filter(|t| !t.is_dead()).map(rank).filter(|r| *r <= last).min();
        let Some(next) = next else { return false };
        let due = self.tasks.values().filter(|t| rank(t) == next && t.kill.is_none() && !t.is_dead());
        let names: Vec<String> = due.map(|t| t.spec.name.clone()).collect();
        for name in &names {
            self.kill_task(name, now);
        }
        !names.is_empty()
    }

    /// Ends one task for good.
    pub(crate) fn kill_task(&mut self, name: &str, now: Timestamp) {
        let no_delay = self.spec.no_shutdown_delay;
        let Some(task) = self.tasks.get_mut(name).filter(|t| !t.is_dead() && t.kill.is_none()) else { return };
        events::append(&mut task.state, events::killing(task.spec.kill_timeout), now);
        match task.phase {
            Phase::Waiting | Phase::Backoff | Phase::AwaitServer | Phase::Dead => {
                task.become_dead(false, now);
                self.void_timer(&TimerKind::Backoff(name.to_owned()));
            }
            Phase::Starting => {
                task.kill = Some(Kill::Wanted);
                let start = task.start;
                self.out.push(Effect::CancelStart { task: name.to_owned(), start });
            }
            Phase::Recovering => task.kill = Some(Kill::Wanted),
            Phase::Running => {
                // It does not come back, whatever was asked for before; a restart under way is told as one.
                task.pausing = false;
                if task.restart_asked.take().is_some() {
                    task.state.last_restart = Some(now);
                }
                let delay = task.spec.shutdown_delay;
                self.out.push(Effect::Stopping { task: Some(name.to_owned()) });
                if delay.0 > 0 && no_delay {
                    events::append(&mut task.state, events::skipping_shutdown_delay(delay), now);
                } else if delay.0 > 0 {
                    events::append(&mut task.state, events::waiting_shutdown_delay(delay), now);
                    task.kill = Some(Kill::Delay);
                    self.set_timer(TimerKind::ShutdownDelay(name.to_owned()), delay);
                    return;
                }
                self.ask_kill(name);
            }
        }
    }

    /// Asks the driver to end a task, to kill or to restart it.
    pub(crate) fn ask_kill(&mut self, name: &str) {
        let Some(task) = self.tasks.get_mut(name).filter(|t| t.phase == Phase::Running) else { return };
        let tries = if let Some(Kill::Asked(tries)) = task.kill { tries } else { 0 };
        let comes_back = task.restart_asked.is_some() || task.pausing;
        if !comes_back || task.kill.is_some() {
            task.kill = Some(Kill::Asked(tries + 1));
        }
        let (start, signal) = (task.start, task.spec.kill_signal.clone());
        let timeout = task.spec.kill_timeout.to_std();
        self.out.push(Effect::KillTask { task: name.to_owned(), start, signal, timeout });
    }

    /// A stop without delay arrived while one was running.
    pub(crate) fn cut_delays(&mut self, now: Timestamp) {
        if self.stop == Stop::Delay {
            self.void_timer(&TimerKind::GroupDelay);
            self.delay_over();
        }
        let delayed = self.tasks.values().filter(|t| t.kill == Some(Kill::Delay));
        let names: Vec<(String, Nanos)> = delayed.map(|t| (t.spec.name.clone(), t.spec.shutdown_delay)).collect();
        for (name, delay) in names {
            self.void_timer(&TimerKind::ShutdownDelay(name.clone()));
            self.tell(&name, events::skipping_shutdown_delay(delay), now);
            self.ask_kill(&name);
        }
    }

    /// The job no longer has this task: it is killed, and counts as failed.
    pub(crate) fn drop_task(&mut self, name: &str, now: Timestamp) {
        let Some(task) = self.tasks.get_mut(name).filter(|t| !t.dropped && !t.is_dead()) else { return };
        task.dropped = true;
        self.kill_task(name, now);
    }
}
