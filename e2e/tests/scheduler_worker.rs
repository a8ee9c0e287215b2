//! A scheduler's worker against appliers that refuse, trim, or are not there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::applier::{PLANS, PlansSubmitted, SubmitPlans};
use axum::routing::post;
use axum::{Json, Router};
use client::replica::Replica;
use client::state::StateClient;
use e2e::nouns::{job, node};
use e2e::plane::{Plane, WITHIN};
use fsm::{Command, Envelope, LeaseFence, LeaseName, PartDropped, Plan, PlanResult, Reply};
use kit::process::Shutdown;
use kit::shell::Shell;
use model::{EvalId, EvalStatus, Index, Role};

fn live(state: &fsm::State, job: &str) -> usize {
    state.allocs_of_job(&"default".into(), &job.into()).filter(|a| !a.is_terminal()).count()
}

async fn plane(with: &[Role]) -> Plane {
    let plane = Plane::of(with.iter().map(|role| (*role, format!("{role}-0"))).collect()).await;
    plane.nodes(vec![node(1, 10_000, 80_000), node(2, 10_000, 80_000)]).await;
    plane
}

const ALL_BUT_APPLIER: &[Role] = &[Role::State, Role::Broker, Role::Controller, Role::Scheduler];

/// What an applier played by the test does with the n-th submission.
type Verdict = dyn Fn(usize, &mut Vec<Plan>) -> Option<Vec<PlanResult>> + Send + Sync;

/// Holds the applier's lease, and commits what `verdict` leaves to commit.
struct FakeApplier {
    submissions: Arc<AtomicUsize>,
    sizes: Arc<Mutex<Vec<usize>>>,
    shutdown: Shutdown,
}

impl FakeApplier {
    async fn start(plane: &Plane, verdict: Box<Verdict>) -> Self {
        Self::start_ahead(plane, verdict, 0, Arc::default()).await
    }

    /// Says of its first plans that they are committed `ahead` of where they are; `answered` is the highest index
    /// that it has answered.
    async fn start_ahead(plane: &Plane, verdict: Box<Verdict>, ahead: u64, answered: Arc<AtomicU64>) -> Self {
        let shutdown = Shutdown::new();
        let shell = Shell::start(plane.settings(Role::Applier, "fake-applier"), Role::Applier, shutdown.clone());
        let shell = shell.await.unwrap();
        let state = shell.state();
        let replica = shell.replica(&[fsm::Table::Cluster, fsm::Table::Leases], Box::new(client::replica::NoObserver));
        let (lease, _) = shell.lease(LeaseName::Applier, &state, &replica);
        let rows = plane.replica.clone();
        let (submissions, sizes) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, seen, verdict) = (submissions.clone(), sizes.clone(), Arc::new(verdict));
        let handler = move |Json(body): Json<SubmitPlans>| {
            let (count, seen, verdict) = (count.clone(), seen.clone(), verdict.clone());
            let (state, lease, answered, rows) = (state.clone(), lease.clone(), answered.clone(), rows.clone());
            async move {
                let n = count.fetch_add(1, Ordering::SeqCst);
                let mut plans = body.plans;
                seen.lock().unwrap().push(plans.iter().flat_map(|p| p.parts.values()).map(|p| p.place.len()).sum());
                let mut results = match verdict(n, &mut plans) {
                    Some(results) => results,
                    None => commit(&state, &rows, lease.current().unwrap().fence(), plans).await,
                };
                if n < 3 {
                    results.iter_mut().for_each(|result| result.index = Index(result.index.get() + ahead));
                }
                let last = results.iter().map(|result| result.index.get()).max().unwrap_or(0);
                answered.fetch_max(last, Ordering::SeqCst);
                Json(PlansSubmitted { results })
            }
        };
        let limit = axum::extract::DefaultBodyLimit::max(64 << 20);
        let router = Router::new().route(PLANS, post(handler)).layer(limit);
        tokio::spawn(async move { shell.serve(router, "{}").await.unwrap() });
        plane
            .until("it has the lease", |s| s.lease(LeaseName::Applier).is_some_and(|l| l.holder == "fake-applier"))
            .await;
        Self { submissions, sizes, shutdown }
    }
}

impl Drop for FakeApplier {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

async fn commit(state: &StateClient, rows: &Replica, fence: LeaseFence, plans: Vec<Plan>) -> Vec<PlanResult> {
    // Alone as it is, it takes the nodes' fences of the moment: each plan by itself.
    let mut results: Vec<PlanResult> = Vec::new();
    for mut plan in plans {
        let before = results.last().map_or(plan.snapshot_index, |result| result.index);
        let now = rows.reached(before, WITHIN).await.unwrap();
        plan.parts.iter_mut().for_each(|(node, part)| part.fence = now.node_fence(node));
        let command = Command::PlanApply { plans: vec![plan] };
        let envelope = Envelope {
            request: Some(client::state::new_request_id()),
            proposer: Role::Applier,
            lease: Some(fence.clone()),
            now: client::clock::unix_nanos(),
            command,
        };
        match state.propose_envelope(&envelope, WITHIN).await.unwrap().1 {
            Reply::Plans { results: mine } => results.extend(mine),
            other => panic!("{other:?}"),
        }
    }
    results
}

fn conflict(plans: &[Plan]) -> Vec<PlanResult> {
    let dropped = |plan: &Plan| -> BTreeMap<_, _> {
        plan.parts.keys().map(|node| (node.clone(), PartDropped::NodeFull)).collect()
    };
    plans.iter().map(|plan| PlanResult { dropped: dropped(plan), ..PlanResult::default() }).collect()
}

/// q-worker-009, plan-queue-001: the worker gives its decision as a plan and gets an answer for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_plan_is_made_anew_and_goes_through() {
    let plane = plane(ALL_BUT_APPLIER).await;
    let applier =
        FakeApplier::start(&plane, Box::new(|n, plans: &mut Vec<Plan>| (n < 2).then(|| conflict(plans)))).await;
    let eval = plane.register(job("web", "service", 1, 10)).await;
    let state = plane.until("it is placed", |s| live(s, "web") == 1).await;
    assert_eq!(state.eval(&eval).unwrap().status, EvalStatus::Complete);
    assert_eq!(applier.submissions.load(Ordering::SeqCst), 3);
}

/// util-002
#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_whose_plans_keep_conflicting_fails_and_a_blocked_one_takes_its_place() {
    let plane = plane(ALL_BUT_APPLIER).await;
    for kind in ["service", "batch"] {
        let seen: Arc<Mutex<Vec<EvalId>>> = Arc::default();
        let submitted = Arc::clone(&seen);
        let refuse = move |_, plans: &mut Vec<Plan>| {
            submitted.lock().unwrap().extend(plans.iter().map(|plan| plan.eval_id.clone()));
            Some(conflict(plans))
        };
        let applier = FakeApplier::start(&plane, Box::new(refuse)).await;
        let eval = plane.register(job(kind, kind, 1, 10)).await;
        let state =
            plane.until("it is given up", |s| s.eval(&eval).is_some_and(|e| e.status == EvalStatus::Failed)).await;
        let blocked = state.eval(&state.eval(&eval).unwrap().blocked_eval).unwrap();
        assert_eq!(blocked.triggered_by, "max-plan-attempts");
        assert!(!blocked.status.is_terminal());
        assert_eq!(seen.lock().unwrap().iter().filter(|id| **id == eval).count(), 5, "{kind}");
        drop(applier);
        plane.until("the lease is free", |s| s.lease(LeaseName::Applier).unwrap().holder.is_empty()).await;
    }
}

/// q-worker-019, plan-queue-002: what is not taken is asked again, by and by.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_applier_evaluations_wait_and_nothing_is_held_against_them() {
    let mut plane = plane(ALL_BUT_APPLIER).await;
    let evals = [plane.register(job("a", "service", 1, 10)).await, plane.register(job("b", "batch", 1, 10)).await];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let state = plane.replica.state();
    assert!(evals.iter().all(|id| state.eval(id).unwrap().status == EvalStatus::Pending));
    plane.run(Role::Applier, "applier-0");
    let state = plane.until("both are placed", |s| live(s, "a") == 1 && live(s, "b") == 1).await;
    assert!(evals.iter().all(|id| state.eval(id).unwrap().status == EvalStatus::Complete));
}

/// A worker's dequeue waits for 20 s when there is nothing; its process does not.
#[tokio::test(flavor = "multi_thread")]
async fn q_worker_004_a_worker_that_waits_for_work_ends_at_once_and_leaves_nothing_behind() {
    let mut plane = plane(&[Role::State, Role::Broker, Role::Applier, Role::Controller, Role::Scheduler]).await;
    plane.register(job("first", "service", 1, 10)).await;
    plane.until("it works", |s| live(s, "first") == 1).await;
    // What it found is acknowledged, so it asks for more.
    let asked = std::time::Instant::now();
    plane.stop("scheduler-0").await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // Nothing was delivered to the dead: the next one to come has it at once.
    let eval = plane.register(job("second", "service", 1, 10)).await;
    plane.run(Role::Scheduler, "scheduler-1");
    let state = plane.until("it is placed", |s| live(s, "second") == 1).await;
    assert_eq!(state.eval(&eval).unwrap().status, EvalStatus::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_the_broker_again_when_it_comes_back() {
    let mut plane = plane(&[Role::State, Role::Broker, Role::Applier, Role::Controller, Role::Scheduler]).await;
    for n in 0..3 {
        plane.stop("broker-0").await;
        plane.register(job(&format!("job-{n}"), "service", 1, 10)).await;
        plane.run(Role::Broker, "broker-0");
        plane.until("it is placed", |s| live(s, &format!("job-{n}")) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_larger_than_a_command_is_placed_in_pieces() {
    let plane = plane(ALL_BUT_APPLIER).await;
    plane.nodes((3..=12).map(|n| node(n, 10_000, 80_000)).collect()).await;
    let applier = FakeApplier::start(&plane, Box::new(|_, _: &mut Vec<Plan>| None)).await;
    let count = i64::try_from(api::applier::PLACEMENTS_MAX).unwrap() + 300;
    let eval = plane.register(job("large", "batch", count, 1)).await;
    let state = plane.until("it is done", |s| s.eval(&eval).is_some_and(|e| e.status == EvalStatus::Complete)).await;
    assert_eq!(live(&state, "large"), usize::try_from(count).unwrap());
    assert_eq!(*applier.sizes.lock().unwrap(), [api::applier::PLACEMENTS_MAX, 300]);
}

/// A scheduler that alone places jobs never meets a conflict with itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_decides_on_nothing_older_than_what_its_own_plans_have_done() {
    let plane = plane(ALL_BUT_APPLIER).await;
    // Looks at each plan before it is committed. The first answers are ahead of every copy of the state, until some
    // more jobs have come.
    let (answered, late) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let (told, found) = (Arc::clone(&answered), Arc::clone(&late));
    let look = move |_, plans: &mut Vec<Plan>| {
        let known = told.load(Ordering::SeqCst);
        found.fetch_add(plans.iter().filter(|plan| plan.snapshot_index.get() < known).count(), Ordering::SeqCst);
        None
    };
    let applier = FakeApplier::start_ahead(&plane, Box::new(look), 4, answered).await;
    for n in 0..100 {
        plane.register(job(&format!("web-{n}"), "service", 1, 10)).await;
    }
    plane.until("all are placed", |s| (0..100).all(|n| live(s, &format!("web-{n}")) == 1)).await;
    assert!(applier.submissions.load(Ordering::SeqCst) > 5, "more than one look");
    assert_eq!(late.load(Ordering::SeqCst), 0, "plans made on a view without the plans before them");
}
