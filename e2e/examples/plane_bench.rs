//! How fast does the control plane place, without gateways and agents? One state server, broker, applier,
//! controller and two schedulers in this process, over real connections, certificates and files.
//!
//! ```text
//! cargo run --release -p e2e --example plane_bench -- [jobs] [nodes] [schedulers]
//! ```
//!
//! * burst: that many one-alloc jobs from 64 proposers at once; clock: first proposal → last allocation
//!   in a replica.
//! * idle: 200 jobs, one after the other; clock: proposal sent → allocation in a replica.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::http::Call;
use client::replica::Replica;
use client::state::StateClient;
use e2e::nouns::{eval, job, node};
use e2e::plane::{Plane, WITHIN};
use fsm::command::{Command, JobRegister};
use model::{Index, Job, Role};

const PROPOSERS: usize = 64;
const IDLE: usize = 200;

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse().unwrap());
    let mut next = |default: usize| args.next().unwrap_or(default);
    let (jobs, nodes, schedulers) = (next(2_000), next(100), next(2));
    if let Ok(filter) = std::env::var("BENCH_LOG") {
        kit::process::telemetry::init(&filter, false).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(jobs, nodes, schedulers));
    runtime.shutdown_timeout(Duration::from_secs(2));
}

async fn run(jobs: usize, nodes: usize, schedulers: usize) {
    let plane = Plane::start(schedulers).await;
    plane.nodes((1..=nodes).map(|n| node(n, 1_000, 8_000)).collect()).await;
    warm(&plane).await;
    let mut idle = idle(&plane, "idle").await;
    report("idle submit to placed", &mut idle);
    let mut seen = plane_counts(&plane).await;
    for round in 0..3 {
        let (seconds, registered) = burst(&plane, jobs, round).await;
        println!(
            "burst {round}: {jobs} jobs in {seconds:.3} s = {:.0} jobs/s (registering took {registered:.3} s)",
            jobs as f64 / seconds
        );
        let state = plane.replica.state();
        let refused = state.evals().filter(|e| !e.status.is_terminal()).count();
        println!("  open evaluations {refused}, allocations {}", state.allocs().count());
        let [plans, conflicts] = plane_counts(&plane).await;
        let (plans, conflicts) = (plans - seen[0], conflicts - seen[1]);
        println!("  plans {plans}, conflicts {conflicts} = {:.1} %", conflicts * 100.0 / plans);
        seen = [seen[0] + plans, seen[1] + conflicts];
    }
    plane.stop_all().await;
}

/// Plans the applier has seen, and those of them that did not pass whole.
async fn plane_counts(plane: &Plane) -> [f64; 2] {
    let target = plane.targets(Role::Applier, 1).await.remove(0);
    let call = Call::get("/metrics", WITHIN);
    let text = String::from_utf8(plane.shell.http.call(&target, call).await.unwrap().body.to_vec()).unwrap();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    };
    [of("nomad_plan_submit"), of("nomad_plan_node_rejected")]
}

async fn warm(plane: &Plane) {
    for n in 0..20 {
        one(&plane.state, &plane.replica, job(&format!("warm-{n}"), "service", 1, 10)).await;
    }
}

async fn idle(plane: &Plane, prefix: &str) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..IDLE {
        took.push(one(&plane.state, &plane.replica, job(&format!("{prefix}-{n}"), "service", 1, 10)).await);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    took
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort();
    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.9), at(0.99), at(1.0));
}

async fn register(state: &StateClient, job: Job) -> Index {
    let eval = Some(eval(&job));
    let register = JobRegister { job, eval, submission: None, enforce_index: None };
    state.propose(Command::JobRegister(Box::new(register)), None, WITHIN).await.unwrap().0
}

async fn one(state: &StateClient, replica: &Replica, job: Job) -> Duration {
    let (namespace, id) = job.key();
    let began = Instant::now();
    register(state, job).await;
    let mut copy = replica.state();
    while copy.allocs_of_job(&namespace, &id).next().is_none() {
        copy = replica.past(copy.index(), WITHIN).await.expect("placed in time");
    }
    began.elapsed()
}

async fn burst(plane: &Plane, jobs: usize, round: usize) -> (f64, f64) {
    let before = plane.replica.state().allocs().count();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let proposers: Vec<_> = (0..PROPOSERS)
        .map(|_| {
            let (state, next) = (plane.state.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= jobs {
                        return;
                    }
                    register(&state, job(&format!("burst-{round}-{n}"), "service", 1, 10)).await;
                }
            })
        })
        .collect();
    for proposer in proposers {
        proposer.await.unwrap();
    }
    let registered = began.elapsed().as_secs_f64();
    let mut index = plane.replica.index();
    loop {
        let copy = plane.replica.state();
        if copy.allocs().count() - before >= jobs {
            break;
        }
        index = index.max(copy.index());
        plane.replica.past(index, Duration::from_secs(1)).await;
    }
    (began.elapsed().as_secs_f64(), registered)
}
