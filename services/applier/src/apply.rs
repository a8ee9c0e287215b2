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

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use api::applier::{PLACEMENTS_MAX, PLANS_MAX};
use client::lease::{Held, LeaseKeeper};
use client::replica::Replica;
use client::state::{ProposeError, StateClient, new_request_id};
use fsm::command::{Command, Envelope};
use fsm::{LeaseFence, PartDropped, Plan, PlanResult, Refusal, Reply};
use model::node::NodeEvent;
use model::{Eligibility, NodeId, Role, Timestamp};
use placement::Rejections;
use tokio::sync::{mpsc, oneshot};

use crate::check::{Checker, Repicked};
use crate::overlay::{Effect, Overlay};
use crate::room::Room;

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
    pub room: Room,
    pub lease: LeaseKeeper,
    pub metrics: crate::Counts,
    pub watch: Watch,
}

/// Counts on which nodes plans fail.
pub struct Watch {
    pub rejections: Rejections,
    /// Moments are counted from here.
    pub since: std::time::Instant,
}

/// Names no node.
impl Default for Watch {
    fn default() -> Self {
        Self { rejections: Rejections::new(placement::RejectionLimits::default(), 0), since: std::time::Instant::now() }
    }
}

impl Watch {
    /// The nodes that are to get nothing more. That somebody else was faster says nothing of a node.
    fn bad(&mut self, results: &[PlanResult]) -> BTreeSet<NodeId> {
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let its_own =
            |why: &PartDropped| matches!(why, PartDropped::NodeFull | PartDropped::PortTaken | PartDropped::Infeasible);
        let rejected = results.iter().flat_map(|result| &result.dropped).filter(|(_, why)| its_own(why));
        rejected.filter(|(node, _)| self.rejections.note(node, now_ms)).map(|(node, _)| node.clone()).collect()
    }
}

impl Applier {
    /// Runs until nobody can submit any more.
    pub async fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
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
        let seen = self.room.look();
        overlay.settle(&seen.state);
        let mut checker = Checker::new(&seen.state, &seen.fleet, overlay);
        let (mut plans, mut repicked, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for submission in batch {
            answers.push((submission.plans.len(), submission.answer));
            for mut plan in submission.plans {
                plan.rejoin();
                repicked.push(check_one(&mut checker, &mut plan));
                plan.lean();
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

    async fn commit(&mut self, overlay: &mut Overlay, checked: Checked, held: Held) {
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
        for node in results.iter().flat_map(|results| self.watch.bad(results)).collect::<Vec<_>>() {
            self.shun(node, held.fence()).await;
        }
        answer(results, repicked, answers, &self.metrics);
    }
}

impl Applier {
    /// A node on which plans keep failing gets no more of them until an operator has looked.
    async fn shun(&self, node: NodeId, lease: LeaseFence) {
        tracing::warn!(node_id = %node, "plans keep failing on a node, making it ineligible");
        let event = NodeEvent {
            message: "Node marked as ineligible for scheduling due to multiple plan rejections".to_owned(),
            subsystem: "Scheduler".to_owned(),
            timestamp: Timestamp(client::clock::unix_nanos()),
            ..NodeEvent::default()
        };
        let command = Command::NodeEligibility {
            node_id: node,
            eligibility: Eligibility::Ineligible,
            event: Some(event),
            evals: Vec::new(),
        };
        if let Err(error) = self.state.propose(command, Some(lease), PROPOSE).await {
            tracing::warn!(error = %error, "the node stays eligible");
        }
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
    // The most urgent first, equals in the order in which they came: who is first gets the room.
    batch.sort_by_key(|submission| Reverse(submission.plans.iter().map(|plan| plan.priority).max()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(name: &str, priority: i64) -> (Submission, oneshot::Receiver<Result<Vec<PlanResult>, NotActive>>) {
        let (answer, answered) = oneshot::channel();
        let plans = vec![Plan { eval_id: name.into(), priority, ..Plan::default() }];
        (Submission { plans, answer }, answered)
    }

    async fn order(of: &[(&str, i64)]) -> Vec<String> {
        let (submit, mut submissions) = mpsc::channel(64);
        for (name, priority) in of {
            submit.send(submission(name, *priority).0).await.unwrap_or_else(|_| panic!("the channel is open"));
        }
        let batch = next_batch(&mut submissions, &mut None).await.unwrap();
        batch.iter().map(|one| one.plans[0].eval_id.to_string()).collect()
    }

    /// plan-queue-004, plan-queue-005
    #[tokio::test]
    async fn plan_queue_004_005_urgent_plans_are_checked_first_and_equals_as_they_came() {
        let by_priority = order(&[("a", 10), ("b", 30), ("c", 50), ("d", 20), ("e", 40)]).await;
        assert_eq!(by_priority, ["c", "e", "b", "d", "a"]);
        assert_eq!(order(&[("a", 50), ("b", 50), ("c", 50)]).await, ["a", "b", "c"]);
    }

    /// plan-queue-003: nobody submits any more, and there is nothing to take.
    #[tokio::test]
    async fn plan_queue_003_where_nothing_is_submitted_nothing_is_taken() {
        let (submit, mut submissions) = mpsc::channel(1);
        let waited = tokio::time::timeout(Duration::from_millis(20), next_batch(&mut submissions, &mut None)).await;
        assert!(waited.is_err(), "it waits");
        drop(submit);
        assert!(next_batch(&mut submissions, &mut None).await.is_none());
    }

    /// plan-queue-001, plan-queue-002: everybody hears what became of his own plans, or that nothing was done.
    #[tokio::test]
    async fn plan_queue_001_002_each_hears_of_his_own_plans() {
        let counts = crate::Counts::new(&kit::metrics::Metrics::new(&[]));
        let ((one, heard_one), (two, heard_two)) = (submission("a", 1), submission("b", 1));
        let answers = |one: Submission, two: Submission| vec![(1, one.answer), (1, two.answer)];
        let result = |index| PlanResult { index: model::Index(index), ..PlanResult::default() };
        let ports = || vec![Repicked::new(), Repicked::new()];
        answer(Some(vec![result(7), result(8)]), ports(), answers(one, two), &counts);
        assert_eq!(heard_one.await.unwrap().unwrap()[0].index, model::Index(7));
        assert_eq!(heard_two.await.unwrap().unwrap()[0].index, model::Index(8));
        let ((one, heard_one), (two, heard_two)) = (submission("a", 1), submission("b", 1));
        answer(None, ports(), answers(one, two), &counts);
        assert_eq!((heard_one.await.unwrap(), heard_two.await.unwrap()), (Err(NotActive), Err(NotActive)));
    }

    #[test]
    fn a_node_is_bad_when_plans_fail_on_it_and_not_when_somebody_was_faster() {
        let limits = placement::RejectionLimits { threshold: 2, ..placement::RejectionLimits::default() };
        let mut watch = Watch { rejections: Rejections::new(limits, 0), since: std::time::Instant::now() };
        let dropped = |why| [PlanResult { dropped: [("n".into(), why)].into(), ..PlanResult::default() }];
        for _ in 0..5 {
            assert!(watch.bad(&dropped(PartDropped::FencePassed)).is_empty());
        }
        assert!(watch.bad(&dropped(PartDropped::NodeFull)).is_empty());
        assert_eq!(watch.bad(&dropped(PartDropped::PortTaken)), ["n".into()].into());
    }
}
