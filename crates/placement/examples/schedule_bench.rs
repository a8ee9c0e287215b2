//! How long one evaluation takes on a large fleet.
//!
//! `cargo run --release -p placement --example schedule_bench [nodes]`
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fsm::{Change, State};
use model::job::Spread;
use model::node::{DriverInfo, NodeNetworkAddress, NodeNetworkResource, NodeResources};
use model::resources::{NetworkResource, Port, Resources};
use model::{Evaluation, Index, Job, Node, NodeStatus, Task, TaskGroup};
use placement::{Fleet, Request, schedule};

fn node(n: u64) -> Node {
    let address = NodeNetworkAddress {
        alias: "default".into(),
        address: format!("10.0.{}.{}", n / 250, n % 250),
        ..Default::default()
    };
    let network = NodeNetworkResource { mode: "host".into(), addresses: vec![address], ..Default::default() };
    let mut resources = NodeResources { node_networks: vec![network], ..NodeResources::default() };
    resources.cpu.cpu_shares = 8000 + i64::try_from(n % 7).unwrap() * 1000;
    resources.memory.memory_mb = 16_384 + i64::try_from(n % 5).unwrap() * 4096;
    resources.disk.disk_mb = 1_000_000;
    let driver = DriverInfo { detected: true, healthy: true, ..DriverInfo::default() };
    let mut node = Node {
        id: format!("{n:08x}-0000-4000-8000-{n:012x}").into(),
        name: format!("node-{n}"),
        datacenter: format!("dc{}", n % 3),
        node_pool: "default".into(),
        status: NodeStatus::Ready,
        node_resources: Some(resources),
        ..Node::default()
    };
    node.attributes.insert("kernel.name".into(), "linux".into());
    node.attributes.insert("cpu.numcores".into(), format!("{}", 4 + n % 13));
    node.meta.insert("rack".into(), format!("r{}", n % 40));
    node.drivers.insert("raw_exec".into(), driver);
    node.computed_class = node.computed_class();
    node
}

fn job(id: &str, count: i64) -> Job {
    let task = Task {
        name: "t".into(),
        driver: "raw_exec".into(),
        resources: Some(Resources { cpu: Some(100), memory_mb: Some(64), ..Resources::default() }),
        ..Task::default()
    };
    let group = TaskGroup { name: Some("g".into()), count: Some(count), tasks: vec![task], ..TaskGroup::default() };
    let mut job = Job {
        id: Some(id.into()),
        name: Some(id.into()),
        datacenters: vec!["*".into()],
        task_groups: vec![group],
        ..Job::default()
    };
    job.canonicalize();
    (job.create_index, job.modify_index, job.job_modify_index) = (Some(Index(9)), Some(Index(9)), Some(Index(9)));
    job.version = Some(0);
    job
}

fn measure(name: &str, base: &State, fleet: &Fleet, job: &Job, runs: u32) {
    let mut state = base.clone();
    let index = Index(state.index().get() + 1);
    state.commit(index, &Change::JobVersion(Arc::new(job.clone())));
    state.commit(index, &Change::Job(Arc::new(job.clone())));
    let eval = Evaluation {
        id: "e".into(),
        namespace: job.namespace(),
        job_id: job.id(),
        kind: job.kind_text().to_owned(),
        triggered_by: "job-register".into(),
        ..Evaluation::default()
    };
    let mut times: Vec<Duration> = Vec::new();
    let mut placed = 0;
    for run in 0..runs {
        let mut n = 0_u64;
        let mut new_id = || {
            n += 1;
            format!("{n:08x}-1111-4000-8000-{run:012x}")
        };
        let start = Instant::now();
        let decision = schedule(Request {
            state: &state,
            fleet,
            eval: &eval,
            now: 1,
            seed: u64::from(run),
            retry: false,
            new_id: &mut new_id,
            suspects: &|_| false,
        });
        times.push(start.elapsed());
        placed = decision.plan.parts.values().map(|p| p.place.len()).sum();
    }
    times.sort();
    let median = times[times.len() / 2].as_secs_f64() * 1e6;
    println!(
        "{name:<44} {placed:>6} placed {median:>10.0} us ({:.1} us each)",
        median / f64::from(u32::try_from(placed).unwrap().max(1))
    );
}

fn main() {
    let nodes: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5000);
    let mut state = State::default();
    for n in 0..nodes {
        state.commit(Index(n + 1), &Change::Node(Arc::new(node(n))));
    }
    let start = Instant::now();
    let fleet = Fleet::from_state(&state);
    println!("{nodes} nodes: fleet from state in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let copies: Vec<Fleet> = (0..100).map(|_| fleet.clone()).collect();
    println!("a clone of the fleet in {:.1} us", start.elapsed().as_secs_f64() * 1e6 / 100.0);
    drop(copies);

    measure("count 1", &state, &fleet, &job("one", 1), 200);
    measure("count 1000", &state, &fleet, &job("many", 1000), 20);
    let mut ports = job("ports", 1000);
    ports.task_groups[0].networks.push(NetworkResource {
        mode: "host".into(),
        dynamic_ports: vec![Port { label: "http".into(), to: -1, ..Port::default() }],
        ..NetworkResource::default()
    });
    measure("count 1000, a dynamic port", &state, &fleet, &ports, 20);
    let mut spread = job("spread", 1000);
    spread.spreads.push(Spread { attribute: "${meta.rack}".into(), weight: Some(50), spread_target: Vec::new() });
    measure("count 1000, spread over 40 racks", &state, &fleet, &spread, 20);
    let mut each = job("each", 1);
    each.kind = Some("system".into());
    measure("system", &state, &fleet, &each, 20);
}
