//! The machine of one allocation: every event goes in here, every effect comes out.
//!
//! A step has two halves. First the event is taken in, which changes one task or the wish for the whole.
//! Then [`Machine::settle`] draws all consequences until nothing moves: failures stop the group, a stop
//! advances, gates open, health is judged. At the end a changed report is announced once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::alloc::{AllocDeploymentStatus, TaskEvent, TaskState};
use model::{ClientStatus, Index, JobKind, Nanos, TaskStateKind, Timestamp};

use crate::events;
use crate::gates::{self, Stage};
use crate::health::{self, Verdict};
use crate::restart::{Decision, Outcome, noise};
use crate::saved::{Saved, SavedHealth, SavedTask};
use crate::spec::{AllocSpec, Class};
use crate::status::summarize;
use crate::stopping::Stop;
use crate::task::{Kill, Phase, TaskRun};

/// Tries of a kill that the driver refuses.
const KILL_TRIES: u32 = 5;
const RUN_TIME_OVER: &str = "Allocation exceeded its max_run_duration";

/// How a task ended, as its driver tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskExit {
    pub code: i32,
    pub signal: i32,
    pub oom_killed: bool,
    /// The driver lost it, or has more to say.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFailureKind {
    Validation,
    Download,
    Hook,
    Driver,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    pub kind: StartFailureKind,
    pub message: String,
    pub recoverable: bool,
}

/// What happened. News of a task carries the number of the start it is about.
#[derive(Clone, Debug)]
pub enum Event {
    Started {
        task: String,
        start: u64,
    },
    StartFailed {
        task: String,
        start: u64,
        failure: StartFailure,
    },
    Exited {
        task: String,
        start: u64,
        exit: TaskExit,
    },
    /// The driver could not be brought to kill it.
    KillFailed {
        task: String,
        start: u64,
        message: String,
    },
    Recovered {
        task: String,
        start: u64,
    },
    RecoverFailed {
        task: String,
        start: u64,
    },
    /// The driver has something to say about a task.
    DriverMessage {
        task: String,
        message: String,
        annotations: BTreeMap<String, String>,
    },
    Timer(Timer),
    /// The first exchange with the cluster since the agent started.
    ServerContact,
    /// The cluster sent a newer row, or a stop.
    Updated(Box<AllocSpec>),
    /// The allocation as a whole could not be prepared.
    SetupFailed {
        reason: String,
    },
    /// The node was disconnected and is back.
    Reconnected,
    /// Everything must end now and nothing more may run: the cluster forgot the allocation, or it may not
    /// run without contact.
    Destroy,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimerKind {
    Backoff(String),
    ShutdownDelay(String),
    KillRetry(String),
    GroupDelay,
    Healthy,
    HealthDeadline,
    RunTime,
    /// The hours of a task begin or end, or are looked at again.
    Hours(String),
}

/// A timer that was set. Setting one of the same kind again makes the older one void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    pub kind: TimerKind,
    pub generation: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Prepare the task and start it; answer `Started` or `StartFailed`. A handle must be stored first.
    StartTask {
        task: String,
        start: u64,
    },
    /// The start under way is not wanted any more: make it end soon, either way.
    CancelStart {
        task: String,
        start: u64,
    },
    /// Find it again; answer `Recovered` or `RecoverFailed`.
    RecoverTask {
        task: String,
        start: u64,
    },
    /// Make it end; its `Exited` is the answer, or `KillFailed`.
    KillTask {
        task: String,
        start: u64,
        signal: String,
        timeout: Duration,
    },
    /// The driver may forget this start.
    FreeTask {
        task: String,
        start: u64,
    },
    SignalTask {
        task: String,
        start: u64,
        signal: String,
    },
    SetTimer {
        timer: Timer,
        after: Duration,
    },
    /// The task (or with `None` the whole) is about to be stopped: take it out of service discovery.
    Stopping {
        task: Option<String>,
    },
    /// [`Machine::report`] changed: store [`Machine::saved`] and send the report, at once when `urgent`.
    Report {
        urgent: bool,
    },
    /// No task lives or will start by itself: what is held for the allocation as a whole may go.
    Finished,
}

/// What the cluster is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub client_status: ClientStatus,
    pub client_description: String,
    pub task_states: model::SmallMap<String, TaskState>,
    pub deployment_status: Option<AllocDeploymentStatus>,
}

#[derive(Debug)]
pub struct Machine {
    pub(crate) spec: AllocSpec,
    pub(crate) tasks: BTreeMap<String, TaskRun>,
    pub(crate) stage: Stage,
    pub(crate) stop: Stop,
    pub(crate) poststop_cancelled: bool,
    run_time_over: bool,
    verdict: Option<SavedHealth>,
    pub(crate) timers: HashMap<TimerKind, u64>,
    timer_count: u64,
    noise_count: u64,
    contacted: bool,
    finished: bool,
    terminal_at: Option<Timestamp>,
    last: Report,
    pub(crate) out: Vec<Effect>,
}

impl Machine {
    /// A machine for an allocation this node sees for the first time.
    pub fn new(spec: AllocSpec, now: Timestamp) -> (Self, Vec<Effect>) {
        let mut machine = Self::empty(spec);
        for task in machine.tasks.values_mut() {
            events::append(&mut task.state, events::received(), now);
        }
        machine.begin(now)
    }

    /// A machine that goes on where one of an earlier agent stopped.
    pub fn restore(spec: AllocSpec, saved: Saved, now: Timestamp) -> (Self, Vec<Effect>) {
        let mut machine = Self::empty(spec);
        machine.poststop_cancelled = saved.poststop_cancelled;
        machine.run_time_over = saved.run_time_over;
        machine.verdict = saved.health;
        if saved.stopping {
            machine.stop = Stop::Bodies;
        }
        for (name, old) in saved.tasks {
            let Some(task) = machine.tasks.get_mut(&name) else { continue };
            task.phase = match old.state.state {
                TaskStateKind::Dead => Phase::Dead,
                _ if old.held => Phase::Recovering,
                // A delay that was running is not waited for again.
                _ => Phase::Waiting,
            };
            (task.state, task.start, task.tracker, task.setup_done) =
                (old.state, old.start, old.tracker, old.setup_done);
            task.wish = old.wish;
            if task.phase == Phase::Recovering {
                machine.out.push(Effect::RecoverTask { task: name, start: task.start });
            }
        }
        machine.begin(now)
    }

    fn empty(spec: AllocSpec) -> Self {
        let tasks = spec.tasks.iter().map(|t| (t.name.clone(), TaskRun::new(t.clone()))).collect();
        Self {
            spec,
            tasks,
            stage: Stage::Prestart,
            stop: Stop::No,
            poststop_cancelled: false,
            run_time_over: false,
            verdict: None,
            timers: HashMap::new(),
            timer_count: 0,
            noise_count: 0,
            contacted: false,
            finished: false,
            terminal_at: None,
            last: Report::default(),
            out: Vec::new(),
        }
    }

    fn begin(mut self, now: Timestamp) -> (Self, Vec<Effect>) {
        self.arm_run_time(now);
        self.watch_health();
        if self.spec.wants_stop() {
            self.begin_stop();
        }
        let effects = self.finish_step(now);
        (self, effects)
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        match event {
            Event::Started { task, start } => self.started(&task, start, now),
            Event::StartFailed { task, start, failure } => self.start_failed(&task, start, &failure, now),
            Event::Exited { task, start, exit } => self.exited(&task, start, &exit, now),
            Event::KillFailed { task, start, message } => self.kill_failed(&task, start, &message, now),
            Event::Recovered { task, start } => self.recovered(&task, start, now),
            Event::RecoverFailed { task, start } => self.recover_failed(&task, start, now),
            Event::DriverMessage { task, message, annotations } => {
                self.tell(&task, events::driver_message(&message, &annotations), now);
            }
            Event::Timer(timer) => self.timer_fired(&timer, now),
            Event::ServerContact => self.contacted(),
            Event::Updated(spec) => self.updated(*spec, now),
            Event::SetupFailed { reason } => self.setup_failed(&reason, now),
            Event::Reconnected => {
                for task in self.tasks.values_mut() {
                    events::append(&mut task.state, events::reconnected(), now);
                }
            }
            Event::Destroy => {
                self.poststop_cancelled = true;
                self.spec.no_shutdown_delay = true;
                self.begin_stop();
                self.cut_delays(now);
            }
        }
        self.finish_step(now)
    }

    pub fn spec(&self) -> &AllocSpec {
        &self.spec
    }

    /// What the cluster should know now.
    pub fn report(&self) -> Report {
        self.last.clone()
    }

    /// What to store, to go on after a restart.
    pub fn saved(&self) -> Saved {
        let task = |t: &TaskRun| SavedTask {
            state: t.state.clone(),
            start: t.start,
            tracker: t.tracker.clone(),
            setup_done: t.setup_done,
            held: matches!(t.phase, Phase::Running | Phase::Recovering),
            wish: t.wish,
        };
        Saved {
            tasks: self.tasks.iter().map(|(name, t)| (name.clone(), task(t))).collect(),
            stopping: self.stop != Stop::No,
            poststop_cancelled: self.poststop_cancelled,
            run_time_over: self.run_time_over,
            health: self.verdict,
        }
    }

    pub(crate) fn tell(&mut self, task: &str, event: TaskEvent, now: Timestamp) {
        if let Some(task) = self.tasks.get_mut(task) {
            events::append(&mut task.state, event, now);
        }
    }

    pub(crate) fn set_timer(&mut self, kind: TimerKind, after: Nanos) {
        self.timer_count += 1;
        self.timers.insert(kind.clone(), self.timer_count);
        self.out.push(Effect::SetTimer { timer: Timer { kind, generation: self.timer_count }, after: after.to_std() });
    }

    pub(crate) fn void_timer(&mut self, kind: &TimerKind) {
        self.timers.remove(kind);
    }

    /// The task, if `start` is its latest start.
    fn current(&mut self, name: &str, start: u64) -> Option<&mut TaskRun> {
        self.tasks.get_mut(name).filter(|t| t.start == start)
    }

    fn started(&mut self, name: &str, start: u64, now: Timestamp) {
        let Some(task) = self.current(name, start).filter(|t| t.phase == Phase::Starting) else { return };
        task.become_running(now);
        events::append(&mut task.state, events::started(), now);
        if task.kill == Some(Kill::Wanted) {
            self.ask_kill(name);
        }
    }

    fn recovered(&mut self, name: &str, start: u64, now: Timestamp) {
        let Some(task) = self.current(name, start).filter(|t| t.phase == Phase::Recovering) else { return };
        task.become_running(now);
        if task.kill == Some(Kill::Wanted) {
            self.ask_kill(name);
        }
    }

    fn recover_failed(&mut self, name: &str, start: u64, now: Timestamp) {
        let at_once = self.spec.kind == JobKind::System || self.spec.wants_stop();
        let contacted = self.contacted;
        let Some(task) = self.current(name, start).filter(|t| t.phase == Phase::Recovering) else { return };
        if task.kill.is_some() {
            task.become_dead(false, now);
            return;
        }
        if !at_once {
            // Said also when there is nothing to wait for any more: it is why the task starts a second time.
            events::append(&mut task.state, events::restore_failed(), now);
        }
        task.become_pending(if at_once || contacted { Phase::Waiting } else { Phase::AwaitServer });
    }

    fn contacted(&mut self) {
        self.contacted = true;
        for task in self.tasks.values_mut().filter(|t| t.phase == Phase::AwaitServer) {
            task.phase = Phase::Waiting;
        }
    }

    fn start_failed(&mut self, name: &str, start: u64, failure: &StartFailure, now: Timestamp) {
        let Some(task) = self.current(name, start).filter(|t| t.phase == Phase::Starting) else { return };
        if task.kill.is_some() {
            task.become_dead(false, now);
            return;
        }
        let event = match failure.kind {
            StartFailureKind::Validation => events::failed_validation(&failure.message),
            StartFailureKind::Download => events::failed_download(&failure.message),
            StartFailureKind::Hook => events::hook_failed(&failure.message),
            StartFailureKind::Driver => events::driver_failure(&failure.message),
        };
        events::append(&mut task.state, event, now);
        self.decide(name, Outcome::NotStarted { recoverable: failure.recoverable }, None, now);
    }

    fn exited(&mut self, name: &str, start: u64, exit: &TaskExit, now: Timestamp) {
        let held = |t: &&mut TaskRun| matches!(t.phase, Phase::Running | Phase::Recovering);
        let Some(task) = self.current(name, start).filter(held) else { return };
        events::append(&mut task.state, events::terminated(exit), now);
        if task.pausing && task.kill.is_none() {
            self.out.push(Effect::FreeTask { task: name.to_owned(), start });
            self.paused(name);
            return;
        }
        let outcome = match (task.kill, task.restart_asked) {
            // An exit during the delay before its kill ends it as well.
            (Some(_), _) => Outcome::Killed,
            (None, Some(failure)) => Outcome::RestartAsked { failure },
            (None, None) => Outcome::Exited { success: exit.code == 0 && exit.signal == 0 && exit.error.is_none() },
        };
        self.out.push(Effect::FreeTask { task: name.to_owned(), start });
        self.decide(name, outcome, None, now);
    }

    /// Applies the restart policy to a task the driver holds no more.
    fn decide(&mut self, name: &str, outcome: Outcome, kill_error: Option<&str>, now: Timestamp) {
        self.noise_count += 1;
        let seed = self.spec.seed.wrapping_add(now.unix_nanos().cast_unsigned());
        let noise = noise(seed, self.noise_count);
        let Some(task) = self.tasks.get_mut(name) else { return };
        for kind in [TimerKind::ShutdownDelay(name.to_owned()), TimerKind::KillRetry(name.to_owned())] {
            self.timers.remove(&kind);
        }
        match task.tracker.decide(&task.spec.rules, outcome, now, noise) {
            Decision::Killed => {
                events::append(&mut task.state, events::killed(kill_error), now);
                task.become_dead(false, now);
            }
            Decision::Finished => task.become_dead(false, now),
            Decision::GiveUp { reason } => {
                events::append(&mut task.state, events::not_restarting(&reason), now);
                task.become_dead(true, now);
            }
            Decision::Restart { reason, delay } => {
                events::append(&mut task.state, events::restarting(&reason, delay), now);
                task.state.restarts += 1;
                task.state.last_restart = Some(now);
                task.restart_asked = None;
                task.kill = None;
                task.pausing = false;
                if delay.0 > 0 {
                    task.become_pending(Phase::Backoff);
                    self.set_timer(TimerKind::Backoff(name.to_owned()), delay);
                } else {
                    task.become_pending(Phase::Waiting);
                }
            }
        }
    }

    fn kill_failed(&mut self, name: &str, start: u64, message: &str, now: Timestamp) {
        let Some(task) = self.current(name, start).filter(|t| t.phase == Phase::Running) else { return };
        let asked_for = task.restart_asked.is_some() || task.pausing;
        let Some(Kill::Asked(tries)) = task.kill.or(asked_for.then_some(Kill::Asked(1))) else { return };
        if tries < KILL_TRIES {
            let gap = Nanos::from_secs((5 * 4_i64.pow(tries - 1)).min(120));
            self.set_timer(TimerKind::KillRetry(name.to_owned()), gap);
            return;
        }
        self.out.push(Effect::FreeTask { task: name.to_owned(), start });
        self.decide(name, Outcome::Killed, Some(message), now);
    }

    fn timer_fired(&mut self, timer: &Timer, now: Timestamp) {
        if self.timers.get(&timer.kind) != Some(&timer.generation) {
            return;
        }
        self.timers.remove(&timer.kind);
        match &timer.kind {
            TimerKind::Backoff(name) => {
                if let Some(task) = self.tasks.get_mut(name).filter(|t| t.phase == Phase::Backoff) {
                    task.phase = Phase::Waiting;
                }
            }
            TimerKind::ShutdownDelay(name) | TimerKind::KillRetry(name) => self.ask_kill(name),
            TimerKind::GroupDelay => self.delay_over(),
            // Settling looks at them again.
            TimerKind::Healthy | TimerKind::Hours(_) => {}
            TimerKind::HealthDeadline => self.deadline_missed(now),
            TimerKind::RunTime => self.run_time_fired(now),
        }
    }

    fn arm_run_time(&mut self, now: Timestamp) {
        match self.spec.run_until.filter(|_| !self.run_time_over) {
            Some(until) => {
                let left = until.unix_nanos().saturating_sub(now.unix_nanos()).max(0);
                self.set_timer(TimerKind::RunTime, Nanos(left));
            }
            None => self.void_timer(&TimerKind::RunTime),
        }
    }

    fn run_time_fired(&mut self, now: Timestamp) {
        if self.spec.run_until.is_some_and(|until| now < until) {
            self.arm_run_time(now);
            return;
        }
        if self.tasks.values().all(TaskRun::is_dead) {
            return;
        }
        self.run_time_over = true;
        self.poststop_cancelled = true;
        self.begin_stop();
    }

    fn setup_failed(&mut self, reason: &str, now: Timestamp) {
        let lives = |t: &TaskRun| matches!(t.phase, Phase::Running | Phase::Recovering);
        for (name, task) in self.tasks.iter_mut().filter(|(_, t)| !lives(t) && !t.is_dead()) {
            if task.phase == Phase::Starting {
                self.out.push(Effect::CancelStart { task: name.clone(), start: task.start });
            }
            events::append(&mut task.state, events::setup_failure(reason), now);
            task.become_dead(true, now);
        }
        self.begin_stop();
    }

    fn updated(&mut self, spec: AllocSpec, now: Timestamp) {
        let before = std::mem::replace(&mut self.spec, spec);
        for spec in self.spec.tasks.clone() {
            match self.tasks.get_mut(&spec.name) {
                Some(task) => {
                    if task.spec.hours != spec.hours {
                        self.timers.remove(&TimerKind::Hours(spec.name.clone()));
                    }
                    task.spec = spec;
                }
                None => {
                    let mut task = TaskRun::new(spec);
                    events::append(&mut task.state, events::received(), now);
                    self.tasks.insert(task.spec.name.clone(), task);
                }
            }
        }
        let gone: Vec<String> =
            self.tasks.keys().filter(|name| self.spec.tasks.iter().all(|t| t.name != **name)).cloned().collect();
        for name in gone {
            self.drop_task(&name, now);
        }
        if before.deployment_id != self.spec.deployment_id {
            self.verdict = None;
            self.watch_health();
        }
        if before.run_until != self.spec.run_until {
            self.arm_run_time(now);
        }
        if self.spec.wants_stop() {
            self.begin_stop();
        }
        if self.spec.no_shutdown_delay {
            self.cut_delays(now);
        }
    }

    /// Draws consequences until nothing moves, then announces what changed.
    pub(crate) fn finish_step(&mut self, now: Timestamp) -> Vec<Effect> {
        self.settle(now);
        let report = self.make_report(now);
        if report != self.last {
            let urgent = report.client_status != self.last.client_status;
            self.last = report;
            self.out.push(Effect::Report { urgent });
        }
        let all_dead = self.tasks.values().all(TaskRun::is_dead);
        if all_dead && !self.finished {
            self.out.push(Effect::Finished);
        }
        self.finished = all_dead;
        std::mem::take(&mut self.out)
    }

    fn settle(&mut self, now: Timestamp) {
        // Each turn moves at least one task or stage forward, and there are few of either.
        let turns_max = 8 + 4 * self.tasks.len();
        for _ in 0..turns_max {
            let moved = self.stop_for_cause(now) | self.advance_stop(now) | self.mind_hours(now) | self.open_gates(now);
            if !moved {
                break;
            }
        }
        self.judge_health(now);
    }

    /// Starts what may start. True when something changed that others wait for.
    fn open_gates(&mut self, now: Timestamp) -> bool {
        let views: Vec<gates::View> = self
            .tasks
            .values()
            .map(|t| gates::View {
                class: t.spec.class,
                state: t.state.state,
                failed: t.state.failed,
                has_run: t.start > 0 && t.state.started_at.is_some(),
            })
            .collect();
        let stage = gates::stage(&views, self.stage);
        let mut moved = stage != self.stage;
        self.stage = stage;
        for (name, task) in &mut self.tasks {
            if task.phase != Phase::Waiting || task.state.is_paused() || !gates::is_open(stage, task.spec.class) {
                continue;
            }
            let poststop = task.spec.class == Class::Poststop;
            let refused = if poststop { self.poststop_cancelled } else { self.stop != Stop::No };
            if refused {
                if poststop {
                    task.become_dead(false, now);
                    moved = true;
                }
                continue;
            }
            if !task.setup_done {
                task.setup_done = true;
                events::append(&mut task.state, events::task_setup(), now);
            }
            task.start += 1;
            task.phase = Phase::Starting;
            self.out.push(Effect::StartTask { task: name.clone(), start: task.start });
            moved = true;
        }
        moved
    }

    fn watch_health(&mut self) {
        if let Some(health) = self.spec.health.clone().filter(|_| self.health_open()) {
            self.set_timer(TimerKind::HealthDeadline, health.healthy_deadline);
        }
    }

    fn health_open(&self) -> bool {
        self.verdict.is_none() && self.spec.recorded_health.is_none() && !self.spec.wants_stop()
    }

    fn classed(&self) -> impl Iterator<Item = (Class, &TaskState)> + Clone {
        self.tasks.values().map(|t| (t.spec.class, &t.state))
    }

    fn judge_health(&mut self, now: Timestamp) {
        let Some(spec) = self.spec.health.clone().filter(|_| self.health_open()) else { return };
        match health::judge(&spec, self.classed(), now) {
            Verdict::Healthy => self.verdict = Some(SavedHealth { healthy: true, at: now }),
            Verdict::Unhealthy => self.verdict = Some(SavedHealth { healthy: false, at: now }),
            Verdict::Wait(Some(left)) => {
                // One timer is enough: it judges again, and waits on if a restart moved the goal.
                if !self.timers.contains_key(&TimerKind::Healthy) {
                    self.set_timer(TimerKind::Healthy, left);
                }
            }
            Verdict::Wait(None) => self.void_timer(&TimerKind::Healthy),
        }
    }

    fn deadline_missed(&mut self, now: Timestamp) {
        let Some(spec) = self.spec.health.clone().filter(|_| self.health_open()) else { return };
        if health::judge(&spec, self.classed(), now) == Verdict::Healthy {
            return;
        }
        self.verdict = Some(SavedHealth { healthy: false, at: now });
        if !spec.explain {
            return;
        }
        for task in self.tasks.values_mut() {
            if let Some(why) = health::culprit(&spec, task.spec.class, &task.state, now) {
                events::append(&mut task.state, events::alloc_unhealthy(&why), now);
            }
        }
    }

    fn make_report(&mut self, now: Timestamp) -> Report {
        let (mut client_status, mut description) = summarize(self.classed());
        if self.run_time_over && client_status != ClientStatus::Failed && self.tasks.values().all(TaskRun::is_dead) {
            (client_status, description) = (ClientStatus::Complete, RUN_TIME_OVER);
        }
        let terminal_at = client_status.is_terminal().then(|| self.terminal_at.unwrap_or(now));
        self.terminal_at = terminal_at;
        let mut task_states: model::SmallMap<_, _> =
            self.tasks.iter().map(|(n, t)| (n.clone(), t.state.clone())).collect();
        if let Some(at) = terminal_at {
            for state in task_states.values_mut().filter(|s| s.finished_at.is_none()) {
                state.finished_at = Some(at);
            }
        }
        let in_deployment = !self.spec.deployment_id.is_empty();
        if client_status == ClientStatus::Failed
            && in_deployment
            && self.verdict.is_none()
            && self.spec.recorded_health.is_none()
        {
            self.verdict = Some(SavedHealth { healthy: false, at: now });
        }
        let deployment_status = self.verdict.map(|verdict| AllocDeploymentStatus {
            healthy: Some(verdict.healthy),
            timestamp: verdict.at,
            canary: self.spec.canary,
            modify_index: Index(0),
        });
        let client_description = description.to_owned();
        Report { client_status, client_description, task_states, deployment_status }
    }
}
