//! A state that is built row by row and takes commands as the log would.
#![allow(dead_code)]

use std::sync::Arc;

use fsm::command::AllocClientUpdate;
use fsm::{Change, Command, Envelope, LeaseFence, LeaseName, Reply, State};
use model::alloc::{AllocDeploymentStatus, RescheduleEvent, RescheduleTracker};
use model::deployment::DeploymentState;
use model::group::ReschedulePolicy;
use model::{
    Allocation, ClientStatus, Deployment, Evaluation, Index, Job, Nanos, Node, NodeStatus, Role, TaskGroup, Term,
    Timestamp,
};

pub const S: i64 = 1_000_000_000;
pub const NOW: Timestamp = Timestamp(1_800_000_000 * S);

pub struct World {
    pub state: State,
    pub index: u64,
    pub ids: u64,
    pub now: Timestamp,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self { state: State::default(), index: 0, ids: 0, now: NOW };
        world.send(Role::State, Command::ClusterInit { region: "global".into(), epoch: "e".into(), with: None });
        let holder = "controller-1".to_owned();
        let addr = "127.0.0.1:1".to_owned();
        world.send(Role::Controller, Command::LeaseAcquire { lease: LeaseName::Controller, holder, addr });
        world
    }

    pub fn send(&mut self, proposer: Role, command: Command) -> Reply {
        let reply = self.try_send(proposer, command);
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        reply
    }

    /// As [`World::send`], for what may be refused.
    pub fn try_send(&mut self, proposer: Role, command: Command) -> Reply {
        self.index += 1;
        let lease = self.state.lease(LeaseName::Controller).filter(|_| proposer == Role::Controller);
        let lease = lease.map(|lease| LeaseFence { lease: LeaseName::Controller, term: lease.term });
        let lease = lease.filter(|fence| fence.term > Term(0));
        let envelope = Envelope { request: None, proposer, lease, now: self.now.0, command };
        let outcome = fsm::apply(&mut self.state, Index(self.index), &envelope);
        outcome.reply
    }

    /// The controller proposes what it decided.
    pub fn perform(&mut self, command: Command) {
        self.send(Role::Controller, command);
    }

    pub fn put(&mut self, change: Change) -> Index {
        self.index += 1;
        self.state.commit(Index(self.index), &change);
        Index(self.index)
    }

    /// Writes a job as its present version.
    pub fn job(&mut self, mut job: Job) -> Arc<Job> {
        let old = self.state.job(&job.namespace(), &job.id()).cloned();
        let index = Index(self.index + 1);
        job.create_index = Some(old.as_ref().map_or(index, |old| old.incarnation()));
        job.version = Some(old.map_or(0, |old| old.version() + 1));
        job.modify_index = Some(index);
        job.job_modify_index = Some(index);
        let job = Arc::new(job);
        self.put(Change::Job(Arc::clone(&job)));
        self.put(Change::JobVersion(Arc::clone(&job)));
        job
    }

    pub fn node(&mut self, id: &str, status: NodeStatus) -> Arc<Node> {
        self.put_node(Node {
            id: id.into(),
            name: id.into(),
            datacenter: "dc1".into(),
            node_pool: "default".into(),
            status,
            ..Node::default()
        })
    }

    pub fn put_node(&mut self, mut node: Node) -> Arc<Node> {
        node.modify_index = Index(self.index + 1);
        let node = Arc::new(node);
        self.put(Change::Node(Arc::clone(&node)));
        node
    }

    pub fn alloc(&mut self, id: &str, job: &Job, node: &str, edit: impl FnOnce(&mut Allocation)) {
        let mut row = Allocation {
            id: id.into(),
            namespace: job.namespace(),
            job_id: job.id(),
            task_group: "g".into(),
            node_id: node.into(),
            name: format!("{}.g[0]", job.id()),
            client_status: ClientStatus::Running,
            job_version: Some(job.version()),
            job_incarnation: Some(job.incarnation()),
            create_index: Index(self.index + 1),
            modify_index: Index(self.index + 1),
            create_time: self.now.0,
            modify_time: self.now.0,
            ..Allocation::default()
        };
        edit(&mut row);
        self.put(Change::Alloc(Arc::new(row)));
    }

    pub fn eval(&mut self, mut row: Evaluation) {
        row.modify_index = Index(self.index + 1);
        if row.create_index == Index(0) {
            row.create_index = row.modify_index;
        }
        self.put(Change::Eval(Arc::new(row)));
    }

    pub fn deployment(&mut self, mut row: Deployment) -> Arc<Deployment> {
        row.modify_index = Index(self.index + 1);
        row.modify_time = row.modify_time.max(1);
        let row = Arc::new(row);
        self.put(Change::Deployment(Arc::clone(&row)));
        row
    }

    pub fn ids(&mut self) -> impl FnMut() -> String + use<> {
        self.ids += 1_000;
        let mut n = self.ids;
        move || {
            n += 1;
            format!("00000000-0000-4000-8000-{n:012}")
        }
    }
}

pub fn job(id: &str, kind: &str) -> Job {
    let group = TaskGroup { name: Some("g".into()), count: Some(2), ..TaskGroup::default() };
    Job {
        id: Some(id.into()),
        name: Some(id.into()),
        namespace: Some("default".into()),
        kind: Some(kind.into()),
        priority: Some(50),
        datacenters: vec!["dc*".into()],
        node_pool: Some("default".into()),
        status: Some("running".into()),
        submit_time: Some(NOW.0),
        task_groups: vec![group],
        ..Job::default()
    }
}

pub fn policy(unlimited: bool, attempts: i64) -> ReschedulePolicy {
    ReschedulePolicy {
        attempts: Some(attempts),
        unlimited: Some(unlimited),
        interval: Some(Nanos::from_secs(3_600)),
        delay: Some(Nanos::from_secs(5)),
        delay_function: Some("constant".into()),
        max_delay: Some(Nanos(0)),
    }
}

pub fn tracker(times: &[i64]) -> RescheduleTracker {
    let event = |&at: &i64| RescheduleEvent { reschedule_time: at, delay: Nanos::from_secs(5), ..Default::default() };
    RescheduleTracker { events: times.iter().map(event).collect(), ..RescheduleTracker::default() }
}

pub fn health(healthy: bool, at: Timestamp, index: u64) -> Option<AllocDeploymentStatus> {
    Some(AllocDeploymentStatus { healthy: Some(healthy), timestamp: at, canary: false, modify_index: Index(index) })
}

pub fn group(total: i64, healthy: i64, deadline_s: i64) -> DeploymentState {
    DeploymentState {
        desired_total: total,
        placed_allocs: total,
        healthy_allocs: healthy,
        progress_deadline: Nanos::from_secs(deadline_s),
        require_progress_by: if deadline_s > 0 { NOW.plus(Nanos::from_secs(deadline_s)) } else { Timestamp::ZERO },
        ..DeploymentState::default()
    }
}

pub fn deployment_of(job: &Job, state: DeploymentState) -> Deployment {
    Deployment {
        id: "d".into(),
        namespace: job.namespace(),
        job_id: job.id(),
        job_version: job.version(),
        job_create_index: job.incarnation(),
        task_groups: [("g".to_owned(), state)].into(),
        ..Deployment::default()
    }
}

pub fn news(id: &str, node: &str, status: ClientStatus) -> AllocClientUpdate {
    AllocClientUpdate {
        id: id.into(),
        node_id: node.into(),
        client_status: status,
        modify_time: NOW.0,
        ..AllocClientUpdate::default()
    }
}
