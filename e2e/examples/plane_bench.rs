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

use client::replica::Replica;
use client::state::StateClient;
use e2e::nouns::{eval, job, node};
use e2e::plane::{Plane, WITHIN};
use fsm::command::{Command, JobRegister};
use model::{Index, Job};

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
    for round in 0..3 {
        let (seconds, registered) = burst(&plane, jobs, round).await;
        println!(
            "burst {round}: {jobs} jobs in {seconds:.3} s = {:.0} jobs/s (registering took {registered:.3} s)",
            jobs as f64 / seconds
        );
        let state = plane.replica.state();
        let refused = state.evals().filter(|e| !e.status.is_terminal()).count();
        println!("  open evaluations {refused}, allocations {}", state.allocs().count());
    }
    plane.stop_all().await;
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
