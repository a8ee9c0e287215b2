//! One task of the machine: its phase, and what is being done to it.
//!
//! ```text
//!              gate opens            driver says started        exit, start error
//!   Waiting ──────────────► Starting ──────────────────► Running ──────────────► (restart?)
//!      ▲                        └────── start error ───────────────────────────────┤
//!      └── delay over ── Backoff ◄───────────────────────────────────── yes ───────┤
//!                                                                        no ──► Dead
//!   Running outside its hours: ended, and Waiting till they come (see `pausing`)
//!   after an agent restart:  Recovering ──found──► Running
//!                                └──lost──► AwaitServer ──contact──► Waiting
//! ```

use model::alloc::TaskState;
use model::{TaskStateKind, Timestamp};
use serde::{Deserialize, Serialize};

use crate::pausing::Wish;
use crate::restart::Tracker;
use crate::spec::TaskSpec;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Waiting,
    Starting,
    Running,
    Backoff,
    Recovering,
    AwaitServer,
    Dead,
}

/// How far a kill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// The driver has not been asked: its start or recovery is under way.
    Wanted,
    /// The task's shutdown delay is running.
    Delay,
    /// The driver has been asked, this many times.
    Asked(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct TaskRun {
    pub spec: TaskSpec,
    pub state: TaskState,
    pub phase: Phase,
    /// The number of the latest start.
    pub start: u64,
    pub tracker: Tracker,
    pub kill: Option<Kill>,
    /// Somebody wants it restarted; true when because it failed.
    pub restart_asked: Option<bool>,
    pub setup_done: bool,
    pub wish: Wish,
    /// It runs outside its hours and is being ended.
    pub pausing: bool,
    /// Its specification is gone: it ends as failed.
    pub dropped: bool,
}

impl TaskRun {
    pub fn new(spec: TaskSpec) -> Self {
        Self {
            spec,
            state: TaskState::default(),
            phase: Phase::Waiting,
            start: 0,
            tracker: Tracker::default(),
            kill: None,
            restart_asked: None,
            setup_done: false,
            wish: Wish::default(),
            pausing: false,
            dropped: false,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    /// True while the driver holds something for it.
    pub fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running | Phase::Recovering)
    }

    pub fn become_running(&mut self, now: Timestamp) {
        self.phase = Phase::Running;
        if self.state.state != TaskStateKind::Running {
            self.state.started_at = Some(now);
        }
        self.state.state = TaskStateKind::Running;
    }

    pub fn become_pending(&mut self, phase: Phase) {
        self.phase = phase;
        self.state.state = TaskStateKind::Pending;
    }

    pub fn become_dead(&mut self, failed: bool, now: Timestamp) {
        self.phase = Phase::Dead;
        self.state.state = TaskStateKind::Dead;
        self.state.failed |= failed || self.dropped;
        self.kill = None;
        self.restart_asked = None;
        self.pausing = false;
        self.state.paused.clear();
        self.state.finished_at.get_or_insert(now);
    }
}
