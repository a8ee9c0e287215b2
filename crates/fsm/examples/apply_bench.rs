//! What a command costs the state machine: `cargo run --release -p fsm --example apply_bench`.
//!
//! A cluster of 1,000 nodes; 20,000 jobs (or as many as the first argument says) are registered and placed one by one,
//! then told to run, one by one and once more by the hundred. For counts of instructions, which a busy machine does not
//! change: `valgrind --tool=callgrind .../examples/apply_bench 2000`, then `callgrind_annotate --inclusive=yes`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fsm::command::{AllocClientUpdate, JobRegister, NodeStatusChange};
use fsm::{
    Command, Envelope, LeaseFence, LeaseName, Plan, PlanPart, Reply, RequestId, State, apply_entry, write_snapshot,
};
use model::alloc::{AllocatedResources, AllocatedTaskResources, TaskEvent, TaskState};
use model::metric::{AllocMetric, NodeScoreMeta};
use model::{
    Allocation, ClientStatus, EvalStatus, Evaluation, Index, Job, Node, NodeStatus, Role, Task, TaskGroup,
    TaskStateKind, Term,
};

const NODES: usize = 1_000;
/// News in one command, as the controller gathers them.
const NEWS: usize = 500;

struct Bench {
    state: State,
    readers: State,
    count: u64,
    spent: Vec<Duration>,
}

impl Bench {
    fn run(&mut self, proposer: Role, command: Command) -> Reply {
        self.count += 1;
        let lease = match proposer {
            Role::Applier => Some(LeaseFence { lease: LeaseName::Applier, term: Term(1) }),
            Role::Controller => Some(LeaseFence { lease: LeaseName::Controller, term: Term(1) }),
            _ => None,
        };
        let now = 1_800_000_000_000_000_000 + i64::try_from(self.count).unwrap() * 1_000_000;
        let request = Some(RequestId { at_ms: u64::try_from(now).unwrap() / 1_000_000, random: self.count });
        let envelope = Envelope { request, proposer, lease, now, command };
        let entry = model::sparse::to_vec(&envelope).unwrap();
        let began = Instant::now();
        let index = Index(self.state.index().get() + 1);
        let outcome = apply_entry(&mut self.state, index, &envelope, &entry);
        self.spent.push(began.elapsed());
        // As the service does: readers hold the state before.
        self.readers = self.state.clone();
        assert!(!matches!(outcome.reply, Reply::Refused(_)), "{:?}", outcome.reply);
        outcome.reply
    }

    fn lap(&mut self, what: &str) {
        self.spent.sort_unstable();
        let at = |part: usize| self.spent[self.spent.len() * part / 1000].as_secs_f64() * 1e6;
        println!("{what:32} p50 {:7.1} us, p99 {:7.1} us", at(500), at(990));
        self.spent.clear();
    }
}

fn job(id: &str) -> Job {
    let task = Task { name: "server".into(), driver: "raw_exec".into(), ..Task::default() };
    let group = TaskGroup { name: Some("g".into()), count: Some(1), tasks: vec![task], ..TaskGroup::default() };
    Job { id: Some(id.into()), kind: Some("service".into()), task_groups: vec![group], ..Job::default() }
}

fn alloc(id: &str, node: &str) -> Allocation {
    let mut task = AllocatedTaskResources::default();
    task.cpu.cpu_shares = 100;
    task.memory.memory_mb = 64;
    let scores = [("binpack", 0.123_456_789), ("job-anti-affinity", 0.0)];
    let score = NodeScoreMeta { node_id: node.into(), scores: scores.into_iter().collect(), norm_score: 0.123_456_789 };
    let metrics = AllocMetric {
        nodes_evaluated: 1000,
        nodes_in_pool: 1000,
        node_pool: "default".into(),
        nodes_available: [("dc1".to_owned(), 1000)].into(),
        score_meta_data: vec![score; 5],
        ..AllocMetric::default()
    };
    Allocation {
        id: id.into(),
        name: "job.g[0]".into(),
        task_group: "g".into(),
        metrics: Some(model::Carried::new(metrics)),
        allocated_resources: Some(Arc::new(AllocatedResources {
            tasks: [("server".to_owned(), task)].into(),
            ..Default::default()
        })),
        ..Allocation::default()
    }
}

fn uuid(kind: u32, n: usize) -> String {
    // Spread like random ids, so that the trees are filled everywhere.
    let mixed = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-{:04x}-4000-8000-{:012x}", mixed >> 32, kind, n)
}

/// The news that a node's allocation runs.
fn news(n: usize, restarts: u64) -> AllocClientUpdate {
    let event = |kind: &str, said: &str| TaskEvent {
        kind: kind.into(),
        display_message: said.into(),
        time: 1_800_000_000_000_000_000,
        ..TaskEvent::default()
    };
    let events = [
        event("Received", "Task received by client"),
        event("Task Setup", "Building Task Directory"),
        event("Started", "Task started by client"),
    ];
    let state = TaskState {
        state: TaskStateKind::Running,
        restarts,
        events: events.into_iter().collect(),
        ..TaskState::default()
    };
    AllocClientUpdate {
        id: uuid(3, n).into(),
        node_id: uuid(1, n % NODES).into(),
        client_status: ClientStatus::Running,
        client_description: "Tasks are running".into(),
        task_states: [("server".to_owned(), state)].into(),
        ..AllocClientUpdate::default()
    }
}

fn main() {
    let jobs: usize = std::env::args().nth(1).map_or(20_000, |text| text.parse().unwrap());
    let mut bench = Bench { state: State::default(), readers: State::default(), count: 0, spent: Vec::new() };
    bench.run(Role::State, Command::ClusterInit { region: "global".into(), epoch: "e".into(), with: None });
    for (lease, role) in [(LeaseName::Applier, Role::Applier), (LeaseName::Controller, Role::Controller)] {
        bench.run(role, Command::LeaseAcquire { lease, holder: "h".into(), addr: "a".into() });
    }
    for n in 0..NODES {
        let node =
            Node { id: uuid(1, n).into(), name: format!("node-{n}"), datacenter: "dc1".into(), ..Node::default() };
        bench.run(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: Vec::new() });
        let update =
            NodeStatusChange { node_id: uuid(1, n).into(), status: NodeStatus::Ready, updated_at: 1, event: None };
        bench.run(Role::Controller, Command::NodeStatusUpdate { updates: vec![update], evals: Vec::new() });
    }
    bench.spent.clear();
    for n in 0..jobs {
        let name = format!("job-{n}");
        let eval = Evaluation {
            id: uuid(2, n).into(),
            job_id: name.as_str().into(),
            kind: "service".into(),
            namespace: "default".into(),
            ..Evaluation::default()
        };
        let register = JobRegister { job: job(&name), eval: Some(eval), submission: None, enforce_index: None };
        bench.run(Role::Gateway, Command::JobRegister(Box::new(register)));
    }
    bench.lap("JobRegister");
    let mut biggest = 0;
    for n in 0..jobs {
        let plan = plan_for(&bench.state, n);
        biggest = serde_json::to_vec(&plan).unwrap().len();
        bench.run(Role::Applier, Command::PlanApply { plans: vec![plan] });
    }
    bench.lap("PlanApply, one allocation");
    println!("{:32} {biggest:8} bytes", "a plan");
    for n in 0..jobs {
        bench.run(Role::Controller, Command::AllocClientUpdate { updates: vec![news(n, 0)], evals: Vec::new() });
    }
    bench.lap("AllocClientUpdate, one");
    for from in (0..jobs).step_by(NEWS) {
        let updates = (from..jobs.min(from + NEWS)).map(|n| news(n, 1)).collect();
        bench.run(Role::Controller, Command::AllocClientUpdate { updates, evals: Vec::new() });
    }
    bench.lap("AllocClientUpdate, 500");
    let began = Instant::now();
    let mut bytes = Vec::new();
    write_snapshot(&bench.state, &mut bytes, None).unwrap();
    println!("{:32} {:8.1} ms, {} MB", "write_snapshot", began.elapsed().as_secs_f64() * 1e3, bytes.len() >> 20);
    let began = Instant::now();
    let read = fsm::read_snapshot(&bytes[..]).unwrap();
    println!("{:32} {:8.1} ms", "read_snapshot", began.elapsed().as_secs_f64() * 1e3);
    assert_eq!(read.hash_text(), bench.state.hash_text());
}

fn plan_for(state: &State, n: usize) -> Plan {
    let (namespace, job_id) = ("default".into(), format!("job-{n}").as_str().into());
    let job = state.job(&namespace, &job_id).expect("registered");
    let node = uuid(1, n % NODES);
    let eval = state.eval(&uuid(2, n).into()).expect("created with the job");
    let part = PlanPart {
        fence: state.node_fence(&node.as_str().into()),
        place: vec![alloc(&uuid(3, n), &node)],
        ..PlanPart::default()
    };
    Plan {
        eval_id: eval.id.clone(),
        job_incarnation: job.incarnation(),
        job_version: job.version(),
        snapshot_index: state.index(),
        parts: [(node.as_str().into(), part)].into(),
        eval: Some(Evaluation {
            status: EvalStatus::Complete,
            queued_allocations: [("g".to_owned(), 0)].into(),
            ..(**eval).clone()
        }),
        namespace,
        job_id,
        ..Plan::default()
    }
}
