//! Which periodic jobs are to be launched now?
//!
//! ```text
//!   next = the first moment of its schedule behind the last launch, and behind the job's present version
//!   next is not here yet ──► wake then
//!   next is here ─┬─ overlap prohibited, a child runs ──► the turn is passed over
//!                 └─ otherwise ──────────────────────────► a child with its evaluation
//! ```
//!
//! Invariants
//! * A turn that was missed (nobody led, or all was down) is made up for once, with the present moment,
//!   however many turns were missed.
//! * The record of the last launch is in the log, and a turn that is not behind it is refused there: a
//!   controller that takes over neither repeats a launch nor forgets one.
//! * A job that is stopped, disabled or waits for a dispatch has no turns.
//!
//! Who drives it: the controller's shell, when a periodic job or a record changed and at
//! [`Decision::wake_at`]. What it cannot do is launch what cannot be read: such a job is passed by, its
//! registration was refused.

use std::collections::BTreeMap;

use fsm::State;
use fsm::command::{Command, JobLaunch};
use model::ids::NewId;
use model::{Index, Job, JobId, NamespaceName, Nanos, Timestamp};

use crate::trigger::Trigger;

/// A turn that is later than this is made up for with the present moment.
const LATE: Nanos = Nanos(1_000_000_000);
/// Turns taken at once; the others follow at once.
const TURNS_MAX: usize = 256;

/// What to do now, and when to look again without news.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub commands: Vec<Command>,
    pub wake_at: Option<Timestamp>,
}

type Key = (NamespaceName, JobId);

/// When each periodic job falls due, as long as neither it nor its record changes.
#[derive(Debug, Default)]
pub struct Agenda {
    due: BTreeMap<Key, Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    /// Of the job and of its record.
    seen: (Index, Index),
    next: Option<Timestamp>,
}

impl Agenda {
    /// Decides; see the module's documentation.
    pub fn decide(&mut self, state: &State, now: Timestamp, new_id: NewId<'_>) -> Decision {
        let mut decision = Decision::default();
        let mut due = BTreeMap::new();
        for job in state.jobs().filter(|job| job.is_periodic_active()) {
            let key = job.key();
            let row = self.due(state, &key, job);
            due.insert(key, row);
            let Some(next) = row.next else { continue };
            if next <= now && decision.commands.len() < TURNS_MAX {
                decision.commands.push(turn(state, job, next, now, new_id));
            } else {
                decision.wake_at = decision.wake_at.into_iter().chain([next]).min();
            }
        }
        self.due = due;
        decision
    }

    fn due(&self, state: &State, key: &Key, job: &Job) -> Due {
        let record = state.periodic_launch(&key.0, &key.1);
        let seen = (job.job_modify_index(), record.map(|row| row.modify_index).unwrap_or_default());
        if let Some(due) = self.due.get(key).filter(|due| due.seen == seen) {
            return *due;
        }
        let last = record.map_or(0, |row| row.launch).max(job.submit_time.unwrap_or(0));
        let next = job.periodic.as_ref().and_then(|config| config.next(Timestamp(last)).ok()).flatten();
        Due { seen, next }
    }
}

fn turn(state: &State, job: &Job, next: Timestamp, now: Timestamp, new_id: NewId<'_>) -> Command {
    let (namespace, job_id) = job.key();
    let late = now.unix_nanos().saturating_sub(next.unix_nanos()) >= LATE.0;
    let at_s = if late { now } else { next }.unix_nanos().div_euclid(1_000_000_000);
    let at = at_s.saturating_mul(1_000_000_000);
    let prohibits = job.periodic.as_ref().is_some_and(|config| config.prohibit_overlap == Some(true));
    if prohibits && state.is_child_live(&namespace, &job_id) {
        return launch(JobLaunch { namespace, job_id, at, ..JobLaunch::default() });
    }
    let child = job.periodic_child(at_s);
    let eval = Trigger::PeriodicJob.eval(&namespace, &child.id(), &child, now, new_id);
    launch(JobLaunch { namespace, job_id, at, child: Some(Box::new(child)), eval: Some(eval), forced: false })
}

fn launch(launch: JobLaunch) -> Command {
    Command::JobLaunch(Box::new(launch))
}
