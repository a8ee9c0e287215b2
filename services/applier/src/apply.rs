//! The applier's loop: take all plans that wait, check them, commit them in one command.
//!
//! ```text
//!   submissions ─► batch ─► check (replica + overlay) ─► propose ─► overlay ─► answers
//!                    ▲                                                            │
//!                    └──────────────── once it is known what became of it ────────┘
//! ```
//!
//! One command at a time. With two on their way the smaller one may overtake the larger, and whoever
//! counted on the other order is dropped; and as long as an answer is outstanding nobody can say whether
//! the replica has its effect already. Throughput comes from the size of the batch: whatever arrives while
//! one is being committed goes with the next.
//!
//! A lease lost with a command on its way: its answer still comes (it was fenced by term), and what waits
//! is answered "not active", so that schedulers return their evaluations.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use api::applier::{PLACEMENTS_MAX, PLANS_MAX};
use client::lease::{Held, LeaseKeeper};
use client::replica::Replica;
use client::state::{ProposeError, StateClient, new_request_id};
use fsm::command::{Command, Envelope};
use fsm::{Plan, PlanResult, Refusal, Reply};
use model::Role;
use tokio::sync::{mpsc, oneshot};

use crate::check::{Checker, Repicked};
use crate::overlay::{Effect, Overlay};

const PROPOSE: Duration = Duration::from_secs(10);
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long a plan that was made from a newer state waits for the replica.
const SNAPSHOT_LAG: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(50);

/// Nothing was done: this applier does not hold the lease, or its replica is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this applier is not the active one")]
pub struct NotActive;

/// Plans of one request, and who waits for what becomes of them.
pub struct Submission {
    pub plans: Vec<Plan>,
    pub answer: oneshot::Sender<Result<Vec<PlanResult>, NotActive>>,
}

impl Submission {
    fn placements(&self) -> usize {
        self.plans.iter().map(placements).sum()
    }
}

pub fn placements(plan: &Plan) -> usize {
    plan.parts.values().map(|part| part.place.len() + part.update.len()).sum()
}

pub struct Applier {
    pub state: StateClient,
    pub replica: Replica,
    pub lease: LeaseKeeper,
    pub metrics: crate::Counts,
}

impl Applier {
    /// Runs until nobody can submit any more.
    pub async fn run(self, mut submissions: mpsc::Receiver<Submission>) {
        let mut overlay = Overlay::default();
        let mut caught_up = None;
        let mut next = None;
        while let Some(batch) = next_batch(&mut submissions, &mut next).await {
            self.caught_up_with(&batch).await;
            let Some(held) = self.active(&mut caught_up).await else {
                for submission in batch {
                    let _ = submission.answer.send(Err(NotActive));
                }
                continue;
            };
            let checked = self.check(&mut overlay, batch);
            self.commit(&mut overlay, checked, held).await;
        }
    }

    /// The lease, once the replica has all that was done under the ones before.
    async fn active(&self, caught_up: &mut Option<model::Term>) -> Option<Held> {
        let held = self.lease.current()?;
        if *caught_up != Some(held.term) {
            self.replica.reached(held.index, CATCH_UP).await.ok()?;
            *caught_up = Some(held.term);
        }
        Some(held)
    }

    fn check(&self, overlay: &mut Overlay, batch: Vec<Submission>) -> Checked {
        let state = self.replica.state();
        overlay.settle(&state);
        let mut checker = Checker::new(&state, overlay);
        let (mut plans, mut repicked, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for submission in batch {
            answers.push((submission.plans.len(), submission.answer));
            for mut plan in submission.plans {
                repicked.push(check_one(&mut checker, &mut plan));
                plans.push(plan);
            }
        }
        Checked { plans, repicked, answers, effect: checker.finish() }
    }

    /// Waits until the replica has what the plans were made from: checked against less, they would seem to
    /// name nodes that are not there.
    async fn caught_up_with(&self, batch: &[Submission]) {
        let newest = batch.iter().flat_map(|s| &s.plans).map(|plan| plan.snapshot_index).max().unwrap_or_default();
        if self.replica.index() < newest && self.replica.reached(newest, SNAPSHOT_LAG).await.is_err() {
            tracing::debug!(index = newest.get(), "plans are newer than the replica, checking them all the same");
        }
    }

    async fn commit(&self, overlay: &mut Overlay, checked: Checked, held: Held) {
        let Checked { plans, repicked, answers, effect } = checked;
        self.metrics.plans.add(plans.len() as f64);
        let envelope = Envelope {
            request: Some(new_request_id()),
            proposer: Role::Applier,
            lease: Some(held.fence()),
            now: client::clock::unix_nanos(),
            command: Command::PlanApply { plans },
        };
        let started = std::time::Instant::now();
        let results = loop {
            match self.state.propose_envelope(&envelope, PROPOSE).await {
                Ok((index, Reply::Plans { results })) => {
                    overlay.add(index, effect, Some(&results));
                    break Some(results);
                }
                Ok((index, _)) => {
                    overlay.add(index, effect, None);
                    break None;
                }
                // Whether it happened is not known: ask again under the same name until it is.
                Err(error @ (ProposeError::Unknown(_) | ProposeError::Unavailable(_))) => {
                    tracing::warn!(error = %error, "plans are not committed yet, trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                // The log has forgotten what became of it; from now on the replica says so.
                Err(ProposeError::Refused(Refusal::RequestTooOld)) => {
                    tracing::warn!("what became of plans is not remembered any more");
                    if let Ok(index) = self.state.read_index(PROPOSE).await {
                        overlay.add(index, effect, None);
                        break None;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "plans were refused");
                    break None;
                }
            }
        };
        self.metrics.commit.since(started);
        answer(results, repicked, answers, &self.metrics);
    }
}

struct Checked {
    plans: Vec<Plan>,
    repicked: Vec<Repicked>,
    answers: Vec<(usize, Answer)>,
    effect: Effect,
}

type Answer = oneshot::Sender<Result<Vec<PlanResult>, NotActive>>;

fn answer(
    results: Option<Vec<PlanResult>>,
    repicked: Vec<Repicked>,
    answers: Vec<(usize, Answer)>,
    metrics: &crate::Counts,
) {
    let mut results = results.map(Vec::into_iter);
    let mut repicked = repicked.into_iter();
    for (count, answer) in answers {
        let mut ports = repicked.by_ref().take(count);
        let mine = results.as_mut().map(|results| {
            let with_ports = |mut result: PlanResult| {
                result.repicked_ports = ports.next().unwrap_or_default();
                if !result.is_full() {
                    metrics.conflicts.increment();
                }
                result
            };
            results.by_ref().take(count).map(with_ports).collect::<Vec<_>>()
        });
        // A scheduler that has gone away gets its evaluations again.
        let _ = answer.send(mine.ok_or(NotActive));
    }
}

/// Everything that waits, up to the limits of one command. `next` keeps the one that was too much.
async fn next_batch(
    submissions: &mut mpsc::Receiver<Submission>,
    next: &mut Option<Submission>,
) -> Option<Vec<Submission>> {
    let first = match next.take() {
        Some(first) => first,
        None => submissions.recv().await?,
    };
    let (mut plans, mut placed) = (first.plans.len(), first.placements());
    let mut batch = vec![first];
    while let Ok(submission) = submissions.try_recv() {
        plans += submission.plans.len();
        placed += submission.placements();
        if plans > PLANS_MAX || placed > PLACEMENTS_MAX {
            *next = Some(submission);
            break;
        }
        batch.push(submission);
    }
    Some(batch)
}

/// A plan that the check cannot take must not take the applier with it: it is refused.
fn check_one(checker: &mut Checker<'_>, plan: &mut Plan) -> Repicked {
    // The same evaluation always draws the same ports.
    let seed = model::hash::fnv1a(plan.eval_id.as_str().as_bytes());
    let checked = catch_unwind(AssertUnwindSafe(|| checker.check(plan, seed)));
    checked.unwrap_or_else(|_| {
        tracing::error!(eval_id = %plan.eval_id, job_id = %plan.job_id, "checking a plan panicked, it is refused");
        checker.skip(plan);
        Repicked::new()
    })
}
