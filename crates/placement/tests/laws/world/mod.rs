//! A cluster without processes: commands go straight into the state machine, evaluations straight to the
//! scheduler, plans back into the log. The fleet follows the changes as a real one follows the feed.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::collections::BTreeMap;
use std::sync::Arc;

use fsm::command::{AllocClientUpdate, JobDeregister, JobRegister, NodeStatusChange};
use fsm::{Command, Envelope, LeaseFence, LeaseName, PlanResult, Reply, State};
use model::alloc::{DesiredTransition, TaskState};
use model::job::Constraint;
use model::node::{DrainStrategy, DriverInfo, NodeNetworkAddress, NodeNetworkResource, NodeResources};
use model::resources::Resources;
use model::{
    AllocId, Allocation, ClientStatus, Eligibility, EvalId, EvalStatus, Evaluation, Index, Job, Nanos, Node, NodeId,
    NodeStatus, Role, Task, TaskGroup, TaskStateKind, Term, Timestamp,
};
use placement::{Decision, Fleet, Request, schedule};

pub const SECOND: i64 = 1_000_000_000;

pub struct World {
    pub state: State,
    pub fleet: Fleet,
    pub now: i64,
    next: u64,
    pub suspects: Vec<NodeId>,
    pub seed: u64,
    pub retry: bool,
}

pub fn uuid(n: u64) -> String {
    format!("{n:08x}-0000-4000-8000-{n:012x}")
}

/// Names the allocations by their index and revision: what most tests compare.
pub fn names(allocs: &[Arc<Allocation>]) -> Vec<String> {
    let mut names: Vec<String> = allocs.iter().map(|a| a.name.clone()).collect();
    names.sort();
    names
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            fleet: Fleet::default(),
            now: 1_800_000_000 * SECOND,
            next: 0,
            suspects: Vec::new(),
            seed: 7,
            retry: false,
        };
        world.submit(Role::State, Command::ClusterInit { region: "global".into(), epoch: "e".into(), with: None });
        for (role, lease) in [(Role::Applier, LeaseName::Applier), (Role::Controller, LeaseName::Controller)] {
            world.submit(role, Command::LeaseAcquire { lease, holder: "test".into(), addr: "t:1".into() });
        }
        world
    }

    /// With `n` equal nodes.
    pub fn with_nodes(n: u64) -> Self {
        let mut world = Self::new();
        for i in 0..n {
            world.add_node(node(i));
        }
        world
    }

    pub fn id(&mut self) -> String {
        self.next += 1;
        uuid(0xa000_0000 + self.next)
    }

    pub fn submit(&mut self, proposer: Role, command: Command) -> Reply {
        let reply = self.submit_unchecked(proposer, command);
        self.state.check().unwrap();
        reply
    }

    /// For states that no command could have made.
    fn submit_unchecked(&mut self, proposer: Role, command: Command) -> Reply {
        let lease = match proposer {
            Role::Applier => Some(LeaseName::Applier),
            Role::Controller => Some(LeaseName::Controller),
            _ => None,
        };
        let fence = lease.map(|lease| LeaseFence { lease, term: self.state.lease(lease).map_or(Term(0), |l| l.term) });
        let envelope = Envelope { request: None, proposer, lease: fence, now: self.now, command };
        let index = Index(self.state.index().get() + 1);
        let outcome = fsm::apply(&mut self.state, index, &envelope);
        for change in &outcome.changes {
            self.fleet.apply(&self.state, change);
        }
        let fresh = Fleet::from_state(&self.state);
        for node in self.state.nodes() {
            assert_eq!(self.fleet.holdings(&node.id), fresh.holdings(&node.id), "{}", node.name);
        }
        if let Reply::Refused(refusal) = &outcome.reply {
            panic!("refused: {refusal}");
        }
        outcome.reply
    }

    pub fn add_node(&mut self, mut node: Node) -> NodeId {
        node.computed_class = node.computed_class();
        let id = node.id.clone();
        self.submit(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: Vec::new() });
        self.set_status(&id, NodeStatus::Ready);
        id
    }

    pub fn set_status(&mut self, id: &NodeId, status: NodeStatus) {
        let change = NodeStatusChange { node_id: id.clone(), status, updated_at: self.now / SECOND, event: None };
        self.submit(Role::Controller, Command::NodeStatusUpdate { updates: vec![change], evals: Vec::new() });
    }

    pub fn set_eligible(&mut self, id: &NodeId, eligibility: Eligibility) {
        let (node_id, evals) = (id.clone(), Vec::new());
        self.submit(Role::Gateway, Command::NodeEligibility { node_id, eligibility, event: None, evals });
    }

    pub fn drain(&mut self, id: &NodeId) {
        let (node_id, drain) = (id.clone(), Some(DrainStrategy::default()));
        let command = Command::NodeDrain {
            node_id,
            drain,
            mark_eligible: false,
            meta: Default::default(),
            event: None,
            evals: Vec::new(),
        };
        self.submit(Role::Gateway, command);
    }

    pub fn eval_for(&mut self, job: &Job, trigger: &str) -> Evaluation {
        Evaluation {
            id: EvalId::from(self.id()),
            namespace: job.namespace(),
            job_id: job.id(),
            priority: job.priority(),
            kind: job.kind_text().to_owned(),
            triggered_by: trigger.to_owned(),
            status: EvalStatus::Pending,
            create_time: self.now,
            modify_time: self.now,
            ..Evaluation::default()
        }
    }

    /// Registers a job and returns its evaluation, not yet processed.
    pub fn register_only(&mut self, job: &Job) -> Evaluation {
        let mut job = job.clone();
        job.canonicalize();
        let eval = self.eval_for(&job, "job-register");
        let id = eval.id.clone();
        let register = JobRegister { job, eval: Some(eval), submission: None, enforce_index: None };
        self.submit(Role::Gateway, Command::JobRegister(Box::new(register)));
        self.eval(&id)
    }

    pub fn register_only_unchecked(&mut self, job: &Job) -> Evaluation {
        let mut job = job.clone();
        job.canonicalize();
        let eval = self.eval_for(&job, "job-register");
        let id = eval.id.clone();
        let register = JobRegister { job, eval: Some(eval), submission: None, enforce_index: None };
        self.submit_unchecked(Role::Gateway, Command::JobRegister(Box::new(register)));
        self.eval(&id)
    }

    pub fn register(&mut self, job: &Job) -> Evaluation {
        let eval = self.register_only(job);
        self.process(&eval)
    }

    pub fn stop_job(&mut self, job: &Job, purge: bool) -> Evaluation {
        let eval = self.eval_for(job, "job-deregister");
        let id = eval.id.clone();
        let command = JobDeregister {
            namespace: job.namespace(),
            job_id: job.id(),
            purge,
            eval: Some(eval),
            submit_time: self.now,
        };
        self.submit(Role::Gateway, Command::JobDeregister(Box::new(command)));
        let eval = self.eval(&id);
        self.process(&eval)
    }

    /// A new evaluation of the job, processed.
    pub fn evaluate(&mut self, job: &Job, trigger: &str) -> Evaluation {
        let eval = self.eval_for(job, trigger);
        let id = eval.id.clone();
        self.submit(Role::Controller, Command::EvalCreate { evals: vec![eval] });
        let eval = self.eval(&id);
        self.process(&eval)
    }

    pub fn eval(&self, id: &EvalId) -> Evaluation {
        Evaluation::clone(self.state.eval(id).unwrap())
    }

    pub fn decide(&mut self, eval: &Evaluation) -> Decision {
        let mut next = self.next;
        let mut new_id = || {
            next += 1;
            uuid(0xa000_0000 + next)
        };
        let suspects = self.suspects.clone();
        let decision = schedule(Request {
            state: &self.state,
            fleet: &self.fleet,
            eval,
            now: self.now,
            seed: self.seed,
            retry: self.retry,
            new_id: &mut new_id,
            suspects: &|id| suspects.contains(id),
            clock: &|| 0,
        });
        self.next = next;
        decision
    }

    /// Schedules, checks the plan as an applier would, commits it; returns the evaluation's row.
    pub fn process(&mut self, eval: &Evaluation) -> Evaluation {
        let decision = self.decide(eval);
        self.verify(&decision);
        let result = self.apply(decision);
        assert!(result.is_full(), "{result:?}");
        self.eval(&eval.id)
    }

    pub fn verify(&self, decision: &Decision) {
        for (id, part) in decision.plan.parts.iter().filter(|(_, part)| !part.place.is_empty()) {
            let node = self.state.node(id).unwrap();
            let stopped = |a: &&Arc<Allocation>| {
                !part.stop.iter().any(|s| s.id == a.id) && !part.preempt.iter().any(|p| p.id == a.id)
            };
            let existing = self.state.allocs_of_node(id).filter(stopped).map(|a| &**a);
            placement::verify(node, existing, &part.place).unwrap();
            for alloc in &part.place {
                let key = (&alloc.namespace, &alloc.job_id);
                let job =
                    self.state.job_version(key.0, key.1, alloc.job_incarnation.unwrap(), alloc.job_version.unwrap());
                let job = job.unwrap();
                let group = job.lookup_group(&alloc.task_group).unwrap();
                // Whether a volume can be had is said by rows that only a scheduler is told of.
                if group.volumes.is_empty() {
                    placement::feasible(node, job, group).unwrap();
                }
            }
        }
    }

    pub fn apply(&mut self, decision: Decision) -> PlanResult {
        let reply = self.submit(Role::Applier, Command::PlanApply { plans: vec![decision.plan] });
        let Reply::Plans { mut results } = reply else { panic!("{reply:?}") };
        results.remove(0)
    }

    pub fn allocs(&self, job: &Job) -> Vec<Arc<Allocation>> {
        self.state.allocs_of_job(&job.namespace(), &job.id()).cloned().collect()
    }

    /// Those that nobody stopped and that did not end.
    pub fn live(&self, job: &Job) -> Vec<Arc<Allocation>> {
        let mut live: Vec<_> = self.allocs(job).into_iter().filter(|a| !a.is_terminal()).collect();
        live.sort_by_key(|a| a.index());
        live
    }

    pub fn report(&mut self, alloc: &Allocation, status: ClientStatus) {
        self.report_with(alloc, status, None);
    }

    pub fn report_with(&mut self, alloc: &Allocation, status: ClientStatus, healthy: Option<bool>) {
        let ended = status.is_terminal();
        let task = TaskState {
            state: if ended { TaskStateKind::Dead } else { TaskStateKind::Running },
            failed: status == ClientStatus::Failed,
            started_at: Some(Timestamp(self.now)),
            finished_at: ended.then_some(Timestamp(self.now)),
            ..TaskState::default()
        };
        let deployment_status = healthy.map(|healthy| model::alloc::AllocDeploymentStatus {
            healthy: Some(healthy),
            timestamp: Timestamp(self.now),
            canary: alloc.is_canary(),
            ..Default::default()
        });
        let update = AllocClientUpdate {
            id: alloc.id.clone(),
            node_id: alloc.node_id.clone(),
            client_status: status,
            task_states: model::SmallMap::from([("t".to_owned(), task)]),
            deployment_status,
            modify_time: self.now,
            ..AllocClientUpdate::default()
        };
        self.submit(Role::Controller, Command::AllocClientUpdate { updates: vec![update], evals: Vec::new() });
    }

    /// Every live allocation runs, healthy where a deployment asks.
    pub fn run_all(&mut self, job: &Job) {
        for alloc in self.live(job) {
            let healthy = (!alloc.deployment_id.is_empty()).then_some(true);
            self.report_with(&alloc, ClientStatus::Running, healthy);
        }
        for alloc in self.allocs(job) {
            if alloc.server_terminal() && !alloc.client_terminal() {
                self.report(&alloc, ClientStatus::Complete);
            }
        }
    }

    pub fn transition(&mut self, alloc: &AllocId, transition: DesiredTransition) {
        let transitions = BTreeMap::from([(alloc.clone(), transition)]);
        let command = Command::AllocDesiredTransition { transitions, evals: Vec::new() };
        self.submit(Role::Controller, command);
    }
}

/// A node of 4000 MHz, 8192 MiB, with a mock driver, rack `r<n mod 3>`.
pub fn node(n: u64) -> Node {
    let address = NodeNetworkAddress {
        family: "ipv4".into(),
        alias: "default".into(),
        address: format!("10.0.{}.{}", n / 250, n % 250 + 1),
        ..NodeNetworkAddress::default()
    };
    let network = NodeNetworkResource { mode: "host".into(), addresses: vec![address], ..Default::default() };
    let mut resources = NodeResources { node_networks: vec![network], ..NodeResources::default() };
    resources.cpu.cpu_shares = 4000;
    resources.cpu.total_cpu_cores = 4;
    resources.cpu.reservable_cpu_cores = vec![0, 1, 2, 3];
    resources.memory.memory_mb = 8192;
    resources.disk.disk_mb = 100_000;
    let driver = DriverInfo { detected: true, healthy: true, ..DriverInfo::default() };
    Node {
        id: NodeId::from(uuid(n)),
        name: format!("node-{n}"),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        status: NodeStatus::Initializing,
        secret_id: uuid(0xffff_0000 + n),
        attributes: BTreeMap::from([
            ("kernel.name".to_owned(), "linux".to_owned()),
            ("driver.mock_driver".to_owned(), "1".to_owned()),
            ("unique.hostname".to_owned(), format!("node-{n}")),
        ]),
        meta: BTreeMap::from([("rack".to_owned(), format!("r{}", n % 3))]),
        drivers: BTreeMap::from([("mock_driver".to_owned(), driver)]),
        node_resources: Some(resources),
        ..Node::default()
    }
}

/// A job of one group `g` with one task `t`: 500 MHz, 256 MiB, no update block.
pub fn job(kind: &str, count: i64) -> Job {
    let task = Task {
        name: "t".into(),
        driver: "mock_driver".into(),
        resources: Some(Resources { cpu: Some(500), memory_mb: Some(256), ..Resources::default() }),
        ..Task::default()
    };
    let group = TaskGroup { name: Some("g".into()), count: Some(count), tasks: vec![task], ..TaskGroup::default() };
    let mut job = Job {
        id: Some("j".into()),
        name: Some("j".into()),
        kind: Some(kind.into()),
        datacenters: vec!["*".into()],
        task_groups: vec![group],
        ..Job::default()
    };
    if matches!(kind, "service" | "system") {
        let none = model::job::UpdateStrategy { max_parallel: Some(0), ..Default::default() };
        job.task_groups[0].update = Some(none.clone());
        job.update = Some(none);
    }
    job
}

/// The same with a rolling update.
pub fn rolling(kind: &str, count: i64, max_parallel: i64) -> Job {
    let mut job = job(kind, count);
    let update = model::job::UpdateStrategy { max_parallel: Some(max_parallel), ..Default::default() };
    job.task_groups[0].update = Some(update.clone());
    job.update = Some(update);
    job
}

/// A change that needs new allocations.
pub fn changed(job: &Job, value: &str) -> Job {
    let mut job = job.clone();
    job.task_groups[0].tasks[0].env.insert("V".into(), value.into());
    job
}

/// A change that running allocations take over.
pub fn retouched(job: &Job, seconds: i64) -> Job {
    let mut job = job.clone();
    job.task_groups[0].tasks[0].kill_timeout = Some(Nanos::from_secs(seconds));
    job
}

pub fn constraint(left: &str, operand: &str, right: &str) -> Constraint {
    Constraint { l_target: left.into(), operand: operand.into(), r_target: right.into() }
}

pub fn migrate() -> DesiredTransition {
    DesiredTransition { migrate: Some(true), ..DesiredTransition::default() }
}

/// The counters of group `g` that are not 0, as a dry run shows them.
pub fn says(eval: &Evaluation) -> String {
    let annotations = eval.plan_annotations.as_ref().unwrap();
    let Some(desired) = annotations.desired_tg_updates.get("g") else { return String::new() };
    let counters = desired.counters().into_iter().filter(|(_, n)| *n > 0);
    let said: Vec<String> = counters.map(|(what, n)| format!("{what} {n}")).collect();
    said.join(", ")
}

/// Somebody promotes the canaries of a group.
pub fn promote(world: &mut World, deployment: &model::DeploymentId, group: &str) {
    let update = fsm::command::DeploymentUpdate {
        id: deployment.clone(),
        promote: vec![group.to_owned()],
        ..fsm::command::DeploymentUpdate::default()
    };
    world.submit(Role::Controller, Command::DeploymentUpdate(Box::new(update)));
}
