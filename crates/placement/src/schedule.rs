//! One evaluation, from its job and the nodes to a plan.
//!
//! ```text
//!  Request ──> trigger known? ──> reconcile (what) ──> placers (where) ──> plan
//!                                                                    ├──> final evaluation row
//!                                                                    ├──> blocked evaluation, when something found no node
//!                                                                    └──> follow-ups, when something is due later
//! ```
//!
//! Driven by the scheduler service, once per delivery; several of one batch are chained by
//! [`Fleet::assume`]. Pure: the same request gives the same plan. It does not fail: what cannot be placed
//! is in the evaluation's row, and what the applier refuses is tried again from a newer snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use fsm::{Plan, State};
use model::ids::NewId;
use model::metric::{AllocMetric, PlanAnnotations};
use model::{EvalId, EvalStatus, Evaluation, Job, JobKind, NodeId};

use crate::absurd::absurd;
use crate::explain::Explain;
use crate::fleet::Fleet;
use crate::pass::{Outcome, Pass};
use crate::read;

/// Description of an evaluation that waits for room.
pub const BLOCKED_REMAINING: &str = "created to place remaining allocations";
/// Description of an evaluation that waits because plans kept being refused.
pub const BLOCKED_CONFLICTS: &str = "created due to placement conflicts";
const TRIGGER_QUEUED: &str = "queued-allocs";
const TRIGGER_ATTEMPTS: &str = "max-plan-attempts";
/// Most classes that a blocked evaluation names one by one.
const CLASSES_MAX: usize = 256;

/// What one scheduling pass is given.
pub struct Request<'a> {
    pub state: &'a State,
    /// The nodes of `state`, perhaps with plans assumed that are on their way.
    pub fleet: &'a Fleet,
    pub eval: &'a Evaluation,
    /// Unix nanoseconds.
    pub now: i64,
    /// Orders equals and picks ports; one per evaluation, another for each retry.
    pub seed: u64,
    /// A plan for this evaluation met a conflict: nodes are drawn from the best few (see [`crate::placer`]).
    pub retry: bool,
    pub new_id: NewId<'a>,
    /// Nodes whose stream broke: they get nothing new until they answer or are down. That they answer again
    /// is room for what is blocked.
    pub suspects: &'a dyn Fn(&NodeId) -> bool,
    /// Unix nanoseconds at the time of the call. Decides nothing: it is for the times in traces.
    pub clock: &'a dyn Fn() -> i64,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// With the evaluation's final row and the evaluations that follow from it.
    pub plan: Plan,
    /// Nothing to commit but the evaluations: no applier is needed.
    pub no_op: bool,
    pub traces: Explain,
}

/// What registering a job would do.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    pub annotations: PlanAnnotations,
    pub failed_tg_allocs: BTreeMap<String, AllocMetric>,
    pub created_evals: Vec<Evaluation>,
    /// Never to be submitted.
    pub plan: Plan,
    pub traces: Explain,
}

/// Whether a kind of job is looked at for that reason.
fn accepts(kind: JobKind, trigger: &str) -> bool {
    match trigger {
        "job-register" | "job-deregister" | "job-scaling" | "node-update" | "node-drain" | "alloc-stop"
        | "rolling-update" | "deployment-watcher" | "queued-allocs" | "failed-follow-up" | "preemption"
        | "reconnect" => true,
        "periodic-job" => kind != JobKind::System,
        "alloc-failure" | "alloc-reschedule" | "max-plan-attempts" | "max-disconnect-timeout" => {
            matches!(kind, JobKind::Service | JobKind::Batch)
        }
        _ => false,
    }
}

/// Decides what one evaluation needs.
pub fn schedule(req: Request<'_>) -> Decision {
    let job = req.state.job(&req.eval.namespace, &req.eval.job_id);
    let kind = job.map_or_else(|| JobKind::parse(&req.eval.kind).unwrap_or_default(), |job| read::kind(job));
    if !accepts(kind, &req.eval.triggered_by) {
        return refuse(&req, kind);
    }
    if let Some(what) = job.filter(|job| !job.is_stopped()).and_then(|job| absurd(job)) {
        return failed(&req, format!("job cannot be scheduled: {what}"));
    }
    let waits = is_blocked_kind(req.eval);
    decide(req, job, kind, waits)
}

/// Decides what registering `job` would do; `req.eval` is for it and need not be in state.
pub fn dry_run(req: Request<'_>, job: &Job) -> DryRun {
    let known = req.state.job(&req.eval.namespace, &req.eval.job_id);
    let mut job = job.clone();
    match known {
        Some(known) => {
            let changed = known.spec_changed(&job) || known.is_stopped();
            job.create_index = known.create_index;
            job.version = Some(if changed { known.version() + 1 } else { known.version() });
            job.job_modify_index = if changed { Some(req.state.index().next()) } else { known.job_modify_index };
            job.modify_index = job.job_modify_index;
        }
        None => {
            let index = Some(req.state.index().next());
            (job.create_index, job.modify_index, job.job_modify_index, job.version) = (index, index, index, Some(0));
        }
    }
    let (job, kind) = (Arc::new(job.clone()), read::kind(&job));
    let Request { state, fleet, eval, now, seed, retry, new_id, suspects, clock } = req;
    let req = Request { state, fleet, eval, now, seed, retry, new_id: &mut *new_id, suspects, clock };
    let mut decision = decide(req, Some(&job), kind, false);
    let mut created = std::mem::take(&mut decision.plan.create_evals);
    for eval in &mut created {
        eval.snapshot_index = model::Index::default();
        eval.job_modify_index = model::Index::default();
    }
    let eval = decision.plan.eval.clone().unwrap_or_default();
    DryRun {
        annotations: eval.plan_annotations.unwrap_or_default(),
        failed_tg_allocs: eval.failed_tg_allocs,
        created_evals: created,
        plan: decision.plan,
        traces: decision.traces,
    }
}

/// The evaluation's end when its plans kept being refused: it failed, and (for counted jobs) a blocked one
/// tries again later. Returns the final row and the new one.
pub fn give_up(eval: &Evaluation, attempts: u32, now: i64, new_id: NewId<'_>) -> (Evaluation, Option<Evaluation>) {
    let kind = JobKind::parse(&eval.kind).unwrap_or_default();
    let mut last = Evaluation {
        status: EvalStatus::Failed,
        status_description: format!("maximum attempts reached ({attempts})"),
        modify_time: now,
        ..eval.clone()
    };
    if !matches!(kind, JobKind::Service | JobKind::Batch) {
        return (last, None);
    }
    let blocked = Evaluation {
        triggered_by: TRIGGER_ATTEMPTS.to_owned(),
        status: EvalStatus::Blocked,
        status_description: BLOCKED_CONFLICTS.to_owned(),
        escaped_computed_class: true,
        ..following(eval, now, new_id)
    };
    last.blocked_eval = blocked.id.clone();
    (last, Some(blocked))
}

/// An evaluation that began as a blocked one: it goes back to waiting rather than leaving another.
fn is_blocked_kind(eval: &Evaluation) -> bool {
    eval.status == EvalStatus::Blocked || matches!(eval.triggered_by.as_str(), TRIGGER_QUEUED | TRIGGER_ATTEMPTS)
}

fn following(eval: &Evaluation, now: i64, new_id: NewId<'_>) -> Evaluation {
    Evaluation {
        id: EvalId::from(new_id()),
        namespace: eval.namespace.clone(),
        priority: eval.priority,
        kind: eval.kind.clone(),
        job_id: eval.job_id.clone(),
        job_modify_index: eval.job_modify_index,
        previous_eval: eval.id.clone(),
        create_time: now,
        modify_time: now,
        ..Evaluation::default()
    }
}

fn refuse(req: &Request<'_>, kind: JobKind) -> Decision {
    failed(req, format!("scheduler for {kind} jobs cannot handle {:?} evaluations", req.eval.triggered_by))
}

/// The evaluation ends without a plan.
fn failed(req: &Request<'_>, why: String) -> Decision {
    let mut eval = req.eval.clone();
    eval.status = EvalStatus::Failed;
    eval.status_description = why;
    eval.modify_time = req.now;
    let plan = Plan { eval: Some(eval), ..base_plan(req, None) };
    Decision { plan, no_op: true, traces: Explain::default() }
}

fn base_plan(req: &Request<'_>, job: Option<&Arc<Job>>) -> Plan {
    Plan {
        eval_id: req.eval.id.clone(),
        namespace: req.eval.namespace.clone(),
        job_id: req.eval.job_id.clone(),
        job_incarnation: job.map(|job| job.incarnation()).unwrap_or_default(),
        job_version: job.map_or(0, |job| job.version()),
        snapshot_index: req.state.index(),
        priority: req.eval.priority,
        all_at_once: job.and_then(|job| job.all_at_once).unwrap_or(false),
        now: req.now,
        ..Plan::default()
    }
}

fn decide<'a>(mut req: Request<'a>, job: Option<&'a Arc<Job>>, kind: JobKind, waits: bool) -> Decision {
    let mut plan = base_plan(&req, job);
    let outcome = Pass::run(&mut req, job, kind, &mut plan);
    let eval = final_row(&mut req, job, &outcome, waits, &mut plan.create_evals);
    plan.eval = Some(eval);
    plan.create_evals.extend(outcome.followups);
    plan.create_evals.extend(outcome.preempted_jobs);
    let no_op = plan.parts.is_empty() && plan.deployment.is_none() && plan.deployment_updates.is_empty();
    Decision { plan, no_op, traces: outcome.traces }
}

/// The evaluation as it shall stand, with the one that waits for what found no node.
fn final_row(
    req: &mut Request<'_>,
    job: Option<&Arc<Job>>,
    outcome: &Outcome,
    waits: bool,
    create: &mut Vec<Evaluation>,
) -> Evaluation {
    let mut eval = Evaluation {
        status: EvalStatus::Complete,
        status_description: String::new(),
        failed_tg_allocs: outcome.failed.clone(),
        queued_allocations: outcome.queued.clone(),
        plan_annotations: Some(PlanAnnotations {
            desired_tg_updates: outcome.desired.clone(),
            preempted_allocs: outcome.preempted.clone(),
        }),
        class_eligibility: BTreeMap::new(),
        escaped_computed_class: false,
        blocked_eval: EvalId::default(),
        wait_until: None,
        snapshot_index: req.state.index(),
        modify_time: req.now,
        ..req.eval.clone()
    };
    if let Some(id) = outcome.deployment_id.as_ref().or(outcome.deployment_before.as_ref()) {
        eval.deployment_id = id.clone();
    }
    if let Some(last) = outcome.followups.last() {
        eval.next_eval = last.id.clone();
    }
    if !outcome.blocks {
        return eval;
    }
    let mut classes = if outcome.escaped { BTreeMap::new() } else { outcome.classes.clone() };
    if classes.len() > CLASSES_MAX {
        // A class that is not named wakes the evaluation too, so only the others need to be.
        classes.retain(|_, eligible| !*eligible);
    }
    if waits {
        eval.status = EvalStatus::Blocked;
        BLOCKED_REMAINING.clone_into(&mut eval.status_description);
        eval.class_eligibility = classes;
        eval.escaped_computed_class = outcome.escaped;
        eval.missing_non_node_resources = outcome.missing.iter().cloned().collect();
        return eval;
    }
    let blocked = Evaluation {
        triggered_by: TRIGGER_QUEUED.to_owned(),
        job_modify_index: job.map(|job| job.job_modify_index()).unwrap_or_default(),
        status: EvalStatus::Blocked,
        status_description: BLOCKED_REMAINING.to_owned(),
        class_eligibility: classes,
        escaped_computed_class: outcome.escaped,
        missing_non_node_resources: outcome.missing.iter().cloned().collect(),
        failed_tg_allocs: outcome.failed.clone(),
        snapshot_index: req.state.index(),
        ..following(req.eval, req.now, &mut *req.new_id)
    };
    eval.blocked_eval = blocked.id.clone();
    create.push(blocked);
    eval
}
