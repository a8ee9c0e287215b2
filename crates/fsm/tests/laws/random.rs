//! Random histories: many schedulers, nodes that come, go and shrink, jobs that change under their plans.
//!
//! In each history the state is checked after each command (see `world`), no node is ever given more than
//! it has, the followers hold the same, and the log replayed gives the same bytes.

use std::collections::BTreeMap;

use fsm::command::{DeploymentUpdate, EvalUpdate, JobDispatch, JobLaunch, JobRegister, JobScale, JobTag, TagSet};
use fsm::{Command, Plan, PlanPart, PlanStop, Reply, State, apply, read_snapshot};
use model::alloc::{AllocDeploymentStatus, DesiredTransition};
use model::job::{ParameterizedJobConfig, PeriodicConfig};
use model::node::DrainStrategy;
use model::{
    AllocId, Allocation, ClientStatus, DeploymentStatus, DesiredStatus, Eligibility, EvalStatus, Evaluation, Job, Node,
    NodeId, NodeStatus, Role,
};
use proptest::prelude::*;

use crate::world::{self, World, alloc, eval, job_with_count, ns, snapshot};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const JOBS: [&str; 3] = ["j1", "j2", "j3"];
const PARENT: &str = "cron";
const TEMPLATE: &str = "param";

#[derive(Clone, Debug)]
enum Step {
    Node {
        node: usize,
        cpu: i64,
    },
    Status {
        node: usize,
        status: NodeStatus,
    },
    Eligible {
        node: usize,
        eligible: bool,
    },
    Suspect {
        node: usize,
        on: bool,
    },
    Drain {
        node: usize,
        on: bool,
    },
    Forget {
        node: usize,
    },
    Register {
        job: usize,
        count: i64,
    },
    Stop {
        job: usize,
        purge: bool,
    },
    Evaluate {
        job: usize,
        blocked: bool,
    },
    Finish {
        pick: usize,
        status: u8,
    },
    Unblock {
        pick: usize,
    },
    /// A scheduler takes a snapshot.
    Look,
    /// A scheduler plans from the snapshot it took; the plan waits.
    Plan {
        look: bool,
        job: usize,
        wishes: Vec<Wish>,
        all_at_once: bool,
        finish: bool,
        deploy: bool,
    },
    /// Waiting plans are applied, several in one command.
    Apply {
        take: usize,
    },
    Client {
        pick: usize,
        status: ClientStatus,
        health: Option<bool>,
    },
    Transition {
        pick: usize,
    },
    Deployment {
        pick: usize,
        status: DeploymentStatus,
        promote: bool,
    },
    Scale {
        job: usize,
        count: Option<i64>,
    },
    Tag {
        job: usize,
        version: u64,
        on: bool,
    },
    /// A turn of the periodic job, or a dispatch of the parameterized one; some come twice.
    Launch {
        at: i64,
        forced: bool,
        dispatched: bool,
    },
    Reap,
    /// The last command comes again under the same request.
    Again,
    /// A server restarts from its snapshot.
    Restart,
}

#[derive(Clone, Debug)]
struct Wish {
    node: usize,
    cpu: i64,
    replaces: Option<usize>,
    stops: Option<usize>,
    lost: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    (0..NODES.len(), 100..500_i64, proptest::option::of(0..8_usize), proptest::option::of(0..8_usize), any::<bool>())
        .prop_map(|(node, cpu, replaces, stops, lost)| Wish { node, cpu, replaces, stops, lost })
}

fn client_status() -> impl Strategy<Value = ClientStatus> {
    use ClientStatus::{Complete, Failed, Lost, Pending, Running, Unknown};
    prop_oneof![4 => Just(Running), 2 => Just(Complete), 1 => Just(Failed), 1 => Just(Pending), 1 => Just(Lost), 1 => Just(Unknown)]
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES.len();
    let job = 0..JOBS.len();
    let node_status = prop_oneof![
        4 => Just(NodeStatus::Ready), 1 => Just(NodeStatus::Down), 1 => Just(NodeStatus::Disconnected), 1 => Just(NodeStatus::Initializing)
    ];
    use DeploymentStatus::{Failed, Paused, Running, Successful};
    let deployed = prop_oneof![Just(Running), Just(Paused), Just(Failed), Just(Successful)];
    prop_oneof![
        4 => (node.clone(), 600..1200_i64).prop_map(|(node, cpu)| Step::Node { node, cpu }),
        6 => (node.clone(), node_status).prop_map(|(node, status)| Step::Status { node, status }),
        3 => (node.clone(), prop::bool::weighted(0.7)).prop_map(|(node, eligible)| Step::Eligible { node, eligible }),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Step::Suspect { node, on }),
        2 => (node.clone(), prop::bool::weighted(0.3)).prop_map(|(node, on)| Step::Drain { node, on }),
        1 => node.prop_map(|node| Step::Forget { node }),
        8 => (job.clone(), 1..4_i64).prop_map(|(job, count)| Step::Register { job, count }),
        2 => (job.clone(), prop::bool::weighted(0.3)).prop_map(|(job, purge)| Step::Stop { job, purge }),
        8 => (job.clone(), prop::bool::weighted(0.3)).prop_map(|(job, blocked)| Step::Evaluate { job, blocked }),
        2 => (0..9_usize, 0..4_u8).prop_map(|(pick, status)| Step::Finish { pick, status }),
        2 => (0..9_usize).prop_map(|pick| Step::Unblock { pick }),
        5 => Just(Step::Look),
        30 => plan(),
        24 => (1..4_usize).prop_map(|take| Step::Apply { take }),
        15 => (0..20_usize, client_status(), proptest::option::of(any::<bool>()))
            .prop_map(|(pick, status, health)| Step::Client { pick, status, health }),
        2 => (0..20_usize).prop_map(|pick| Step::Transition { pick }),
        4 => (0..4_usize, deployed, any::<bool>()).prop_map(|(pick, status, promote)| Step::Deployment { pick, status, promote }),
        3 => (0..JOBS.len(), proptest::option::of(0..4_i64)).prop_map(|(job, count)| Step::Scale { job, count }),
        2 => (0..JOBS.len(), 0..4_u64, prop::bool::weighted(0.7))
            .prop_map(|(job, version, on)| Step::Tag { job, version, on }),
        4 => (0..6_i64, any::<bool>(), any::<bool>())
            .prop_map(|(at, forced, dispatched)| Step::Launch { at, forced, dispatched }),
        1 => Just(Step::Reap),
        2 => Just(Step::Again),
        2 => Just(Step::Restart),
    ]
}

fn plan() -> impl Strategy<Value = Step> {
    let likely = |p| prop::bool::weighted(p);
    let wishes = proptest::collection::vec(wish(), 0..4);
    (likely(0.5), 0..JOBS.len(), wishes, likely(0.1), likely(0.3), likely(0.4)).prop_map(
        |(look, job, wishes, all_at_once, finish, deploy)| Step::Plan {
            look,
            job,
            wishes,
            all_at_once,
            finish,
            deploy,
        },
    )
}

/// The world with two schedulers' worth of stale knowledge.
struct History {
    world: World,
    /// What schedulers plan from.
    seen: State,
    waiting: Vec<Plan>,
    ids: u64,
    requests: u64,
    placed: usize,
    dropped: usize,
    refused: usize,
}

impl History {
    fn new() -> Self {
        let mut world = World::new();
        for node in NODES {
            world.node(node);
        }
        for job in JOBS {
            world.register(job_with_count(job, 1));
        }
        let mut parent = job_with_count(PARENT, 1);
        parent.kind = Some("batch".into());
        let mut template = Job { id: Some(TEMPLATE.into()), ..parent.clone() };
        parent.periodic = Some(PeriodicConfig { prohibit_overlap: Some(true), ..PeriodicConfig::default() });
        template.parameterized_job = Some(ParameterizedJobConfig::default());
        world.register_with(parent, None);
        world.register_with(template, None);
        let seen = world.state.clone();
        Self { world, seen, waiting: Vec::new(), ids: 0, requests: 0, placed: 0, dropped: 0, refused: 0 }
    }

    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}{}", self.ids)
    }

    fn run(&mut self, role: Role, command: Command) -> Reply {
        let mut envelope = self.world.envelope(role, command);
        self.requests += 1;
        let at = u64::try_from(envelope.now).unwrap() / 1_000_000;
        envelope.request = world::request(at, self.requests);
        self.world.run(envelope)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Node { node, cpu } => {
                let node = Node { node_resources: Some(world::resources(*cpu)), ..world::node(NODES[*node]) };
                self.run(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![] });
            }
            Step::Status { node, status } => {
                let node_id = NODES[*node].into();
                let update = fsm::command::NodeStatusChange { node_id, status: *status, updated_at: 3, event: None };
                self.run(Role::Controller, Command::NodeStatusUpdate { updates: vec![update], evals: vec![] });
            }
            Step::Eligible { node, eligible } => {
                let eligibility = if *eligible { Eligibility::Eligible } else { Eligibility::Ineligible };
                let node_id = NODES[*node].into();
                self.run(Role::Gateway, Command::NodeEligibility { node_id, eligibility, event: None, evals: vec![] });
            }
            Step::Suspect { node, on } => {
                let suspects = [(NODES[*node].into(), *on)].into();
                self.run(Role::Controller, Command::NodeSuspect { suspects });
            }
            Step::Drain { node, on } => {
                let drain = on.then(DrainStrategy::default);
                let node_id = NODES[*node].into();
                let command = Command::NodeDrain {
                    node_id,
                    drain,
                    mark_eligible: true,
                    meta: Default::default(),
                    event: None,
                    evals: vec![],
                };
                self.run(Role::Gateway, command);
            }
            Step::Forget { node } => {
                let nodes = vec![NODES[*node].into()];
                self.run(Role::Gateway, Command::NodeDeregister { nodes, revoke: false, evals: vec![] });
            }
            Step::Register { job, count } => {
                let eval = Some(eval(&self.id("e"), &JOBS[*job].into()));
                let job = job_with_count(JOBS[*job], *count);
                let register = JobRegister { job, eval, submission: None, enforce_index: None };
                self.run(Role::Gateway, Command::JobRegister(Box::new(register)));
            }
            Step::Stop { job, purge } => {
                let eval = Some(eval(&self.id("e"), &JOBS[*job].into()));
                let job_id = JOBS[*job].into();
                let (namespace, purge) = (ns(), *purge);
                let command = fsm::command::JobDeregister { namespace, job_id, purge, eval, submit_time: 0 };
                self.run(Role::Gateway, Command::JobDeregister(Box::new(command)));
            }
            Step::Evaluate { job, blocked } => {
                let status = if *blocked { EvalStatus::Blocked } else { EvalStatus::Pending };
                let id = self.id("e");
                let eval = Evaluation { status, snapshot_index: self.seen.index(), ..eval(&id, &JOBS[*job].into()) };
                self.run(Role::Gateway, Command::EvalCreate { evals: vec![eval] });
            }
            Step::Finish { pick, status } => self.finish(*pick, *status),
            Step::Unblock { pick } => {
                let evals = self.world.state.open_evals().skip(*pick).take(2).map(|eval| eval.id.clone()).collect();
                self.run(Role::Broker, Command::EvalUnblock { evals, reason: "room".into() });
            }
            Step::Look => self.seen = self.world.state.clone(),
            Step::Plan { look, job, wishes, all_at_once, finish, deploy } => {
                if *look {
                    self.seen = self.world.state.clone();
                }
                if let Some(plan) = self.plan(JOBS[*job], wishes, *finish, *deploy) {
                    self.waiting.push(Plan { all_at_once: *all_at_once, ..plan });
                }
            }
            Step::Apply { take } => self.apply(*take),
            Step::Client { pick, status, health } => self.client(*pick, *status, *health),
            Step::Transition { pick } => {
                let Some(id) = self.world.state.allocs().nth(*pick).map(|row| row.id.clone()) else { return };
                let wish = DesiredTransition { migrate: Some(true), ..DesiredTransition::default() };
                let transitions = [(id, wish)].into();
                self.run(Role::Controller, Command::AllocDesiredTransition { transitions, evals: vec![] });
            }
            Step::Deployment { pick, status, promote } => {
                let Some(id) = self.world.state.deployments().nth(*pick).map(|row| row.id.clone()) else { return };
                let promote = if *promote { vec!["g".to_owned()] } else { vec![] };
                let update = DeploymentUpdate { id, status: Some(*status), promote, ..DeploymentUpdate::default() };
                self.run(Role::Controller, Command::DeploymentUpdate(Box::new(update)));
            }
            Step::Scale { job, count } => {
                let command = JobScale {
                    namespace: ns(),
                    job_id: JOBS[*job].into(),
                    group: "g".into(),
                    count: *count,
                    eval: Some(eval(&self.id("e"), &JOBS[*job].into())),
                    ..JobScale::default()
                };
                self.run(Role::Gateway, Command::JobScale(Box::new(command)));
            }
            Step::Tag { job, version, on } => {
                let set = on.then(|| TagSet { version: Some(*version), ..TagSet::default() });
                let tag = JobTag { namespace: ns(), job_id: JOBS[*job].into(), name: "t".into(), set };
                self.run(Role::Gateway, Command::JobTag(Box::new(tag)));
            }
            Step::Launch { at, forced, dispatched } => self.launch(*at, *forced, *dispatched),
            Step::Reap => {
                let state = &self.world.state;
                let command = Command::Reap {
                    evals: state.evals().map(|row| row.id.clone()).collect(),
                    allocs: state.allocs().map(|row| row.id.clone()).collect(),
                    deployments: state.deployments().map(|row| row.id.clone()).collect(),
                    jobs: JOBS.map(|id| (ns(), id.into())).into(),
                };
                self.run(Role::Controller, command);
            }
            Step::Again => {
                let Some(envelope) = self.world.log.last().cloned().filter(|last| last.request.is_some()) else {
                    return;
                };
                self.world.run(envelope);
                assert!(self.world.last.is_empty(), "a request that comes again changes nothing");
            }
            Step::Restart => {
                let bytes = snapshot(&self.world.state, None);
                self.world.state = read_snapshot(&bytes[..]).unwrap();
                assert!(snapshot(&self.world.state, None) == bytes);
            }
        }
    }

    fn finish(&mut self, pick: usize, status: u8) {
        let Some(row) = self.world.state.evals().nth(pick).cloned() else { return };
        let status =
            [EvalStatus::Complete, EvalStatus::Failed, EvalStatus::Cancelled, EvalStatus::Blocked][status as usize];
        let queued = [("g".to_owned(), 1)].into();
        let eval = Evaluation { status, queued_allocations: queued, ..Evaluation::clone(&row) };
        self.run(Role::Scheduler, Command::EvalUpdate { evals: vec![EvalUpdate { eval }], create: vec![] });
    }

    fn client(&mut self, pick: usize, status: ClientStatus, health: Option<bool>) {
        let Some(row) = self.world.state.allocs().nth(pick).map(|row| row.id.clone()) else { return };
        let mut update = self.world.news(row.as_str(), status);
        update.deployment_status =
            health.map(|healthy| AllocDeploymentStatus { healthy: Some(healthy), ..AllocDeploymentStatus::default() });
        self.run(Role::Controller, Command::AllocClientUpdate { updates: vec![update], evals: vec![] });
    }

    /// A plan that is right for the snapshot it is made from: every part fits there.
    fn plan(&mut self, job: &str, wishes: &[Wish], finish: bool, deploy: bool) -> Option<Plan> {
        let seen = self.seen.clone();
        let eval = seen.open_evals_of_job(&ns(), &job.into()).next()?.clone();
        let row = seen.job(&ns(), &job.into());
        let own: Vec<Allocation> = seen.allocs_of_job(&ns(), &job.into()).map(|row| Allocation::clone(row)).collect();
        let mut plan = Plan {
            eval_id: eval.id.clone(),
            namespace: ns(),
            job_id: job.into(),
            job_incarnation: row.map(|job| job.incarnation()).unwrap_or_default(),
            job_version: row.map(|job| job.version()).unwrap_or_default(),
            snapshot_index: seen.index(),
            eval: finish.then(|| Evaluation { status: EvalStatus::Complete, ..Evaluation::clone(&eval) }),
            ..Plan::default()
        };
        let deployment = (deploy && row.is_some()).then(|| self.id("d"));
        plan.deployment = deployment.as_ref().map(|id| world::new_deployment(id, 1));
        for wish in wishes {
            if let Some(stop) = wish.stops.and_then(|at| own.get(at)) {
                let lost = wish.lost.then_some(ClientStatus::Lost);
                let stop = PlanStop {
                    id: stop.id.clone(),
                    desired_status: DesiredStatus::Stop,
                    client_status: lost,
                    ..PlanStop::default()
                };
                let node = own.iter().find(|row| row.id == stop.id).unwrap().node_id.clone();
                plan.parts.entry(node).or_default().stop.push(stop);
            }
        }
        for wish in wishes {
            let node = NODES[wish.node];
            let Some(room) = free(&seen, node, plan.parts.get(node)) else { continue };
            if wish.cpu > room {
                continue;
            }
            let mut row = alloc(&self.id("a"), wish.cpu);
            row.previous_allocation =
                wish.replaces.and_then(|at| own.get(at)).map(|row| row.id.clone()).unwrap_or_default();
            if let Some(deployment) = &deployment {
                row.deployment_id = deployment.as_str().into();
                row.deployment_status = Some(AllocDeploymentStatus { canary: wish.lost, ..Default::default() });
            }
            plan.parts.entry(node.into()).or_default().place.push(row);
        }
        for (node, part) in &mut plan.parts {
            part.fence = seen.node_fence(node);
        }
        Some(plan)
    }

    fn launch(&mut self, at: i64, forced: bool, dispatched: bool) {
        let id = self.id("e");
        if dispatched {
            let mut child = self.world.job(TEMPLATE).dispatched_child(&at.to_string());
            child.dispatch_idempotency_token = forced.then(|| "token".to_owned());
            let eval = Some(eval(&id, &child.id()));
            let command = JobDispatch { parent: TEMPLATE.into(), child, eval };
            self.run(Role::Gateway, Command::JobDispatch(Box::new(command)));
            return;
        }
        let at_s = self.world.now / 1_000_000_000 + at;
        let child = self.world.job(PARENT).periodic_child(at_s);
        let eval = Some(eval(&id, &child.id()));
        let (at, child) = (at_s * 1_000_000_000, Some(Box::new(child)));
        let command = JobLaunch { namespace: ns(), job_id: PARENT.into(), at, child, eval, forced };
        let role = if forced { Role::Gateway } else { Role::Controller };
        self.run(role, Command::JobLaunch(Box::new(command)));
    }

    fn apply(&mut self, take: usize) {
        let count = take.min(self.waiting.len());
        let mut plans: Vec<Plan> = self.waiting.drain(..count).collect();
        // As the applier does: parts behind parts of the same command state the fence those leave.
        let mut ahead: BTreeMap<NodeId, u64> = BTreeMap::new();
        for plan in &mut plans {
            for (node, part) in &mut plan.parts {
                let before = ahead.entry(node.clone()).or_default();
                if *before > 0 && free_after(&self.world.state, node, *before, part) {
                    part.fence.0 += *before;
                }
                *before += part.place.len() as u64;
            }
        }
        let before = self.world.state.clone();
        let Reply::Plans { results } = self.run(Role::Applier, Command::PlanApply { plans: plans.clone() }) else {
            panic!("plans are answered");
        };
        self.assert_lean_plans_do_the_same(before.clone());
        for (plan, result) in plans.iter().zip(&results) {
            self.placed += result.placed.len();
            self.dropped += result.dropped.len();
            self.refused += usize::from(result.refused.is_some());
            let wanted: Vec<&AllocId> = plan.parts.values().flat_map(|part| &part.place).map(|row| &row.id).collect();
            if result.is_full() {
                assert!(wanted.iter().all(|id| result.placed.contains(id)), "full means all of it");
            }
            for id in wanted {
                assert_eq!(self.world.state.alloc(id).is_some(), result.placed.contains(id), "it says what it did");
            }
        }
        self.assert_fits(&before);
    }

    /// The last command, which was done on `before`, does the same with its plans lean.
    fn assert_lean_plans_do_the_same(&self, mut before: State) {
        let mut lean = self.world.log.last().unwrap().clone();
        let Command::PlanApply { plans } = &mut lean.command else { panic!("plans were applied last") };
        plans.iter_mut().for_each(Plan::lean);
        let outcome = apply(&mut before, model::Index(self.world.log.len() as u64), &lean);
        assert_eq!(Some(&outcome.into_line(&before)), self.world.lines.last());
    }

    /// No node that was just given something has more than it can hold.
    fn assert_fits(&self, before: &State) {
        for node in self.world.state.nodes() {
            let new = |row: &&std::sync::Arc<Allocation>| before.alloc(&row.id).is_none();
            if self.world.state.allocs_of_node(&node.id).filter(new).count() > 0 {
                let room = free(&self.world.state, node.id.as_str(), None).expect("a node that receives is ready");
                assert!(room >= 0, "node {} is over-committed by {}", node.id, -room);
            }
        }
    }
}

fn used(state: &State, node: &NodeId, leaving: &[AllocId]) -> i64 {
    let live = state.allocs_of_node(node).filter(|row| !row.is_terminal() && !leaving.contains(&row.id));
    live.map(|row| row.usage().cpu_mhz).sum()
}

/// What is free on a node that is ready, with a part's stops and placements done.
fn free(state: &State, node: &str, part: Option<&PlanPart>) -> Option<i64> {
    let row = state.node(&node.into()).filter(|row| row.is_ready())?;
    let empty = PlanPart::default();
    let part = part.unwrap_or(&empty);
    let leaving: Vec<AllocId> = part.stop.iter().map(|stop| stop.id.clone()).collect();
    let placed: i64 = part.place.iter().map(|row| row.usage().cpu_mhz).sum();
    Some(row.node_resources.as_ref()?.cpu.cpu_shares - used(state, &row.id, &leaving) - placed)
}

/// The applier's own check of a part behind others in its command, careful: whatever those place is as big
/// as it gets.
fn free_after(state: &State, node: &NodeId, others: u64, part: &PlanPart) -> bool {
    let most = i64::try_from(others).unwrap() * 500;
    free(state, node.as_str(), Some(part)).is_some_and(|room| room >= most)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_histories_over_commit_no_node_and_replay_to_the_same_bytes(
        steps in proptest::collection::vec(step(), 1..90),
    ) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
        let world = &history.world;
        if world.part.is_some() {
            world.assert_followed();
        }
        let mut replayed = State::default();
        for (at, envelope) in world.log.iter().enumerate() {
            // From the text, as the log keeps it.
            let envelope = serde_json::from_slice(&model::sparse::to_vec(envelope).unwrap()).unwrap();
            let index = model::Index(at as u64 + 1);
            let outcome = apply(&mut replayed, index, &envelope);
            prop_assert_eq!(outcome.into_line(&replayed).hash, world.lines[at].hash.clone());
        }
        prop_assert!(snapshot(&replayed, None) == snapshot(&world.state, None));
    }
}

#[test]
fn random_histories_reach_what_they_are_for() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let (mut placed, mut dropped, mut refused) = (0, 0, 0);
    for _ in 0..90 {
        let steps = proptest::collection::vec(step(), 80..90).new_tree(&mut runner).unwrap().current();
        let mut history = History::new();
        steps.iter().for_each(|step| history.step(step));
        placed += history.placed;
        dropped += history.dropped;
        refused += history.refused;
    }
    assert!(placed > 300 && dropped > 100 && refused > 100, "placed {placed}, dropped {dropped}, refused {refused}");
}
