//! A small cluster for tests: the state, two followers fed from its lines, and short ways to propose.
//! After each command the state is checked, and the followers must hold the same.
#![allow(clippy::unwrap_used, dead_code)]

use fsm::command::{AllocClientUpdate, DeploymentUpdate, EvalUpdate, JobDeregister, JobRegister, NodeStatusChange};
use fsm::{
    Change, Command, Envelope, FeedLine, LeaseFence, LeaseName, Plan, PlanPart, PlanResult, PlanStop, Refusal, Reply,
    RequestId, State, Table, apply_entry, write_snapshot,
};
use model::alloc::{AllocDeploymentStatus, AllocatedResources, AllocatedTaskResources, TaskState};
use model::deployment::DeploymentState;
use model::node::NodeResources;
use model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentId, DesiredStatus, EvalId, EvalStatus, Evaluation, Index,
    Job, JobId, NamespaceName, Nanos, Node, NodeId, NodeStatus, Role, TaskGroup, Term, Timestamp,
};

/// Tables of the follower that holds some of them.
pub const SUBSET: [Table; 4] = [Table::Nodes, Table::Allocs, Table::Jobs, Table::JobVersions];

pub struct World {
    pub state: State,
    pub full: State,
    pub part: Option<State>,
    pub log: Vec<Envelope>,
    pub lines: Vec<FeedLine>,
    pub last: Vec<Change>,
    pub now: i64,
}

pub fn ns() -> NamespaceName {
    NamespaceName::default_namespace()
}

pub fn snapshot(state: &State, tables: Option<&[Table]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_snapshot(state, &mut bytes, tables).unwrap();
    bytes
}

impl World {
    /// Two nodes, `n1` and `n2`, and a job, `web`.
    pub fn with_job() -> Self {
        let mut world = Self::new();
        world.node("n1");
        world.node("n2");
        world.register(job("web"));
        world
    }

    /// A cluster before its first command.
    pub fn empty() -> Self {
        Self {
            state: State::default(),
            full: State::default(),
            part: None,
            log: Vec::new(),
            lines: Vec::new(),
            last: Vec::new(),
            now: 1_800_000_000_000_000_000,
        }
    }

    /// A cluster with its leases held.
    pub fn new() -> Self {
        let mut world = Self::empty();
        let init = Command::ClusterInit { region: "global".into(), epoch: "first".into(), with: None };
        world.accept(Role::State, init);
        for (lease, role) in [
            (LeaseName::Broker, Role::Broker),
            (LeaseName::Applier, Role::Applier),
            (LeaseName::Controller, Role::Controller),
        ] {
            let command = Command::LeaseAcquire { lease, holder: "one".into(), addr: "127.0.0.1:1".into() };
            world.accept(role, command);
        }
        world
    }

    pub fn envelope(&mut self, proposer: Role, command: Command) -> Envelope {
        self.now += 1_000_000;
        let fence = |lease| self.state.lease(lease).map(|row| LeaseFence { lease, term: row.term });
        let lease = match proposer {
            Role::Broker => fence(LeaseName::Broker),
            Role::Applier => fence(LeaseName::Applier),
            Role::Controller => fence(LeaseName::Controller),
            _ => None,
        };
        Envelope { request: None, proposer, lease, now: self.now, command }
    }

    pub fn run(&mut self, envelope: Envelope) -> Reply {
        let index = self.state.index().next();
        let entry = model::sparse::to_vec(&envelope).unwrap();
        let outcome = apply_entry(&mut self.state, index, &envelope, &entry);
        let reply = outcome.reply.clone();
        self.last = outcome.changes.clone();
        if matches!(reply, Reply::Refused(_)) {
            assert!(self.last.is_empty(), "a refused command changes nothing");
        }
        assert_eq!(self.state.index(), index);
        if let Err(broken) = self.state.check() {
            panic!("after {envelope:?}\n{broken}");
        }
        // Through its text, as a follower gets it.
        let text = model::sparse::to_vec(&outcome.into_line(&self.state)).unwrap();
        let line = self.full.follow(&text).unwrap();
        self.follow_in_part(&line);
        self.log.push(envelope);
        self.lines.push(line);
        reply
    }

    fn follow_in_part(&mut self, line: &FeedLine) {
        match &mut self.part {
            Some(part) => {
                let mut line = line.clone();
                line.changes.retain(|change| SUBSET.contains(&change.table()));
                part.follow(&model::sparse::to_vec(&line).unwrap()).unwrap();
                part.check().unwrap();
            }
            None => self.part = Some(fsm::read_snapshot(&snapshot(&self.state, Some(&SUBSET))[..]).unwrap()),
        }
    }

    /// The followers hold what the state holds.
    pub fn assert_followed(&self) {
        let all = Some(&Table::ALL[..]);
        assert!(snapshot(&self.full, all) == snapshot(&self.state, all), "a follower of everything");
        let part = self.part.as_ref().unwrap();
        assert!(snapshot(part, Some(&SUBSET)) == snapshot(&self.state, Some(&SUBSET)), "a follower of some tables");
    }

    pub fn propose(&mut self, role: Role, command: Command) -> Reply {
        let envelope = self.envelope(role, command);
        self.run(envelope)
    }

    pub fn accept(&mut self, role: Role, command: Command) -> Reply {
        match self.propose(role, command) {
            Reply::Refused(refusal) => panic!("refused: {refusal}"),
            reply => reply,
        }
    }

    pub fn refuse(&mut self, role: Role, command: Command) -> Refusal {
        match self.propose(role, command) {
            Reply::Refused(refusal) => refusal,
            reply => panic!("accepted: {reply:?}"),
        }
    }

    pub fn index(&self) -> Index {
        self.state.index()
    }

    // jobs

    pub fn register(&mut self, job: Job) -> (Index, u64, Option<EvalId>) {
        let eval = eval(&format!("e{}", self.index()), &job.id());
        self.register_with(job, Some(eval))
    }

    pub fn register_with(&mut self, job: Job, eval: Option<Evaluation>) -> (Index, u64, Option<EvalId>) {
        let command = Command::JobRegister(Box::new(JobRegister { job, eval, submission: None, enforce_index: None }));
        match self.accept(Role::Gateway, command) {
            Reply::Job { job_modify_index, version, eval_id, .. } => (job_modify_index, version, eval_id),
            reply => panic!("{reply:?}"),
        }
    }

    pub fn deregister(&mut self, id: &str, purge: bool) -> Option<EvalId> {
        let eval =
            Evaluation { triggered_by: "job-deregister".into(), ..eval(&format!("d{}", self.index()), &id.into()) };
        let command = JobDeregister { namespace: ns(), job_id: id.into(), purge, eval: Some(eval), submit_time: 0 };
        match self.accept(Role::Gateway, Command::JobDeregister(Box::new(command))) {
            Reply::Job { eval_id, .. } => eval_id,
            reply => panic!("{reply:?}"),
        }
    }

    pub fn job(&self, id: &str) -> &Job {
        self.state.job(&ns(), &id.into()).unwrap()
    }

    pub fn status(&self, id: &str) -> &str {
        self.job(id).status.as_deref().unwrap()
    }

    /// Queued, starting, running, complete, failed, lost, unknown of group `g`.
    pub fn summary(&self, id: &str) -> [i64; 7] {
        let summary = self.state.job_summary(&ns(), &id.into()).unwrap();
        let g = &summary.summary["g"];
        [g.queued, g.starting, g.running, g.complete, g.failed, g.lost, g.unknown]
    }

    // nodes

    pub fn node(&mut self, id: &str) -> NodeId {
        let command = Command::NodeRegister { node: Box::new(node(id)), evals: Vec::new() };
        self.accept(Role::Gateway, command);
        self.node_status(id, NodeStatus::Ready);
        id.into()
    }

    pub fn node_status(&mut self, id: &str, status: NodeStatus) {
        let update = NodeStatusChange { node_id: id.into(), status, updated_at: 5, event: None };
        self.accept(Role::Controller, Command::NodeStatusUpdate { updates: vec![update], evals: Vec::new() });
    }

    pub fn node_row(&self, id: &str) -> &Node {
        self.state.node(&id.into()).unwrap()
    }

    // plans

    /// An empty plan for a job, made from the present state under a fresh evaluation.
    pub fn plan(&mut self, job: &str) -> Plan {
        let id = format!("p{}", self.index());
        let wanted = eval(&id, &job.into());
        self.accept(Role::Gateway, Command::EvalCreate { evals: vec![wanted] });
        self.plan_for(job, &id)
    }

    pub fn plan_for(&self, job: &str, eval: &str) -> Plan {
        let row = self.state.job(&ns(), &job.into());
        let done =
            self.state.eval(&eval.into()).map(|row| Evaluation { status: EvalStatus::Complete, ..(**row).clone() });
        Plan {
            eval_id: eval.into(),
            namespace: ns(),
            job_id: job.into(),
            job_incarnation: row.map(|job| job.incarnation()).unwrap_or_default(),
            job_version: row.map(|job| job.version()).unwrap_or_default(),
            snapshot_index: self.index(),
            eval: done,
            now: self.now,
            ..Plan::default()
        }
    }

    /// Adds a placement at the node's present fence.
    pub fn put(&self, plan: &mut Plan, node: &str, id: &str) {
        let part = plan
            .parts
            .entry(node.into())
            .or_insert_with(|| PlanPart { fence: self.state.node_fence(&node.into()), ..PlanPart::default() });
        part.place.push(alloc(id, 100));
    }

    pub fn apply_plans(&mut self, plans: Vec<Plan>) -> Vec<PlanResult> {
        match self.accept(Role::Applier, Command::PlanApply { plans }) {
            Reply::Plans { results } => results,
            reply => panic!("{reply:?}"),
        }
    }

    pub fn apply_plan(&mut self, plan: Plan) -> PlanResult {
        self.apply_plans(vec![plan]).remove(0)
    }

    /// Places allocations of a job on a node and expects them to pass.
    pub fn place(&mut self, job: &str, node: &str, ids: &[&str]) {
        let mut plan = self.plan(job);
        for id in ids {
            self.put(&mut plan, node, id);
        }
        let result = self.apply_plan(plan);
        assert!(result.is_full(), "{result:?}");
    }

    pub fn stop(&mut self, job: &str, id: &str, client_status: Option<ClientStatus>) {
        let mut plan = self.plan(job);
        add_stop(&mut plan, self.alloc(id).node_id.as_str(), id, client_status);
        assert!(self.apply_plan(plan).is_full());
    }

    // allocations

    pub fn alloc(&self, id: &str) -> &Allocation {
        self.state.alloc(&id.into()).unwrap()
    }

    pub fn news(&self, id: &str, status: ClientStatus) -> AllocClientUpdate {
        AllocClientUpdate {
            id: id.into(),
            node_id: self.alloc(id).node_id.clone(),
            client_status: status,
            client_description: format!("it is {status}"),
            modify_time: self.now,
            ..AllocClientUpdate::default()
        }
    }

    pub fn tell(&mut self, id: &str, status: ClientStatus) {
        let update = self.news(id, status);
        self.tell_all(vec![update]);
    }

    pub fn tell_all(&mut self, updates: Vec<AllocClientUpdate>) {
        self.accept(Role::Controller, Command::AllocClientUpdate { updates, evals: Vec::new() });
    }

    pub fn tell_health(&mut self, id: &str, healthy: bool) {
        let mut update = self.news(id, ClientStatus::Running);
        let timestamp = Timestamp(self.now);
        let status = AllocDeploymentStatus { healthy: Some(healthy), timestamp, ..AllocDeploymentStatus::default() };
        update.deployment_status = Some(status);
        self.tell_all(vec![update]);
    }

    // evaluations

    pub fn create_eval(&mut self, eval: Evaluation) {
        self.accept(Role::Gateway, Command::EvalCreate { evals: vec![eval] });
    }

    pub fn update_eval(&mut self, eval: Evaluation) {
        let command = Command::EvalUpdate { evals: vec![EvalUpdate { eval }], create: Vec::new() };
        self.accept(Role::Scheduler, command);
    }

    pub fn finish_eval(&mut self, id: &str) {
        let eval = Evaluation { status: EvalStatus::Complete, ..self.eval(id).clone() };
        self.update_eval(eval);
    }

    pub fn eval(&self, id: &str) -> &Evaluation {
        self.state.eval(&id.into()).unwrap()
    }

    // deployments

    pub fn deployment(&self, id: &str) -> &Deployment {
        self.state.deployment(&id.into()).unwrap()
    }

    pub fn group(&self, id: &str) -> &DeploymentState {
        &self.deployment(id).task_groups["g"]
    }

    pub fn update_deployment(&mut self, update: DeploymentUpdate) -> Reply {
        self.propose(Role::Controller, Command::DeploymentUpdate(Box::new(update)))
    }

    /// How many changes of a table the last command made.
    pub fn changed(&self, table: Table) -> usize {
        self.last.iter().filter(|change| change.table() == table).count()
    }
}

pub fn job(id: &str) -> Job {
    let group = TaskGroup { name: Some("g".into()), count: Some(2), ..TaskGroup::default() };
    Job {
        id: Some(id.into()),
        name: Some(id.into()),
        namespace: Some(ns()),
        kind: Some("service".into()),
        priority: Some(50),
        task_groups: vec![group],
        ..Job::default()
    }
}

/// The same job, asking for something else.
pub fn job_with_count(id: &str, count: i64) -> Job {
    let mut job = job(id);
    job.task_groups[0].count = Some(count);
    job
}

pub fn eval(id: &str, job: &JobId) -> Evaluation {
    Evaluation {
        id: id.into(),
        namespace: ns(),
        job_id: job.clone(),
        kind: "service".into(),
        priority: 50,
        triggered_by: "job-register".into(),
        ..Evaluation::default()
    }
}

pub fn blocked(id: &str, job: &str, snapshot: Index) -> Evaluation {
    Evaluation { status: EvalStatus::Blocked, snapshot_index: snapshot, ..eval(id, &job.into()) }
}

pub fn resources(cpu: i64) -> NodeResources {
    let mut resources = NodeResources::default();
    resources.cpu.cpu_shares = cpu;
    resources.memory.memory_mb = cpu;
    resources.disk.disk_mb = 100_000;
    resources
}

pub fn node(id: &str) -> Node {
    Node {
        id: id.into(),
        name: format!("name-{id}"),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        secret_id: format!("secret-{id}"),
        computed_class: "v1:1".into(),
        node_resources: Some(resources(1000)),
        ..Node::default()
    }
}

pub fn alloc(id: &str, cpu: i64) -> Allocation {
    let mut task = AllocatedTaskResources::default();
    task.cpu.cpu_shares = cpu;
    task.memory.memory_mb = cpu;
    let resources = AllocatedResources { tasks: [("t".to_owned(), task)].into(), ..AllocatedResources::default() };
    Allocation {
        id: id.into(),
        name: format!("job.g[{}]", id.len()),
        task_group: "g".into(),
        allocated_resources: Some(std::sync::Arc::new(resources)),
        ..Allocation::default()
    }
}

pub fn add_stop(plan: &mut Plan, node: &str, id: &str, client_status: Option<ClientStatus>) {
    plan.parts.entry(node.into()).or_default().stop.push(PlanStop {
        id: id.into(),
        desired_status: DesiredStatus::Stop,
        description: "alloc not needed due to job update".into(),
        client_status,
        followup_eval_id: EvalId::default(),
    });
}

pub fn new_deployment(id: &str, canaries: i64) -> Deployment {
    let group = DeploymentState {
        desired_total: 2,
        desired_canaries: canaries,
        progress_deadline: Nanos::from_secs(600),
        ..DeploymentState::default()
    };
    Deployment { id: id.into(), task_groups: [("g".to_owned(), group)].into(), ..Deployment::default() }
}

pub fn task_state() -> TaskState {
    TaskState { state: model::TaskStateKind::Running, ..TaskState::default() }
}

pub fn request(at_ms: u64, random: u64) -> Option<RequestId> {
    Some(RequestId { at_ms, random })
}

pub fn ids(list: &[&str]) -> Vec<AllocId> {
    list.iter().map(|id| AllocId::from(*id)).collect()
}

pub fn term(term: u64) -> Term {
    Term(term)
}

pub fn deployment_id(id: &str) -> DeploymentId {
    id.into()
}
